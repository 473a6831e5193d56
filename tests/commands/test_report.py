"""The page about a pretraining run: what is on it, that it stands alone, that its media play, that text stays text."""

from __future__ import annotations

import base64
import csv
import io
import shlex
import shutil
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from media import decode_audio, decode_frames, probe, write_media

from diffmavil import cli
from diffmavil.commands import report_clips
from diffmavil.commands.report_page import duration, si
from diffmavil.commands.report_results import Result
from diffmavil.commands.report_write import write_report
from diffmavil.data import ClipDataModule, ManifestSource
from diffmavil.models import diffmavil_efficient, mavil
from diffmavil.modules import PretrainModule

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

SECTIONS = ["What was run", "Results", "Losses and scores", "Curves", "Reconstructions", "Where things are"]
HOSTILE_FILE = "<b>&amp;\"'.mp4"
HOSTILE_LABEL = '<script>alert("1")</script>'

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "PretrainModule",
        "init_args": {
            "model": {
                "class_path": "diffmavil.models.diffmavil",
                "init_args": {"size": "nano", "video_patch_size": [2, 8, 8]},
            }
        },
    },
    "data": {
        "batch_size": 2,
        "num_workers": 0,
        "clip_s": 0.8,
        "num_mel_bins": 32,
        "num_frames": 4,
        "fps": 6.0,
        "image_size": 32,
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "reload_dataloaders_every_n_epochs": 1,
        "callbacks": [
            {
                "class_path": "MaskRatioCurriculum",
                "init_args": {"audio": {"start": 0.8, "end": 0.5}, "video": {"start": 0.8, "end": 0.5}},
            },
            {"class_path": "ComputeAccounting"},
            {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_last": True}},
        ],
    },
}


class Page(HTMLParser):
    """What is on a page: elements in order, their text, and whether every element is closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img"):
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag][-1] += data

    def media(self, kind: str) -> list[bytes]:
        """Contents of all that the page holds of a media type."""
        sources = [attrs["src"] for _, attrs in self.elements if "src" in attrs]
        start = f"data:{kind};base64,"
        return [base64.b64decode(source.removeprefix(start)) for source in sources if source.startswith(start)]


def _grey(k: int) -> int:
    """The grey level that tells picture ``k`` of a clip."""
    return 20 + 18 * k


def _noise(seconds: float, seed: int) -> np.ndarray:
    return (0.2 * np.random.default_rng(seed).standard_normal((1, round(seconds * 16000)))).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on five clips, with a clip that cannot be read and names that look like HTML."""
    root = tmp_path_factory.mktemp("report")
    names = [*(f"{k}.mp4" for k in range(5)), "broken.mp4", HOSTILE_FILE, "other.mkv"]
    splits = ["train"] * 4 + ["val"] + ["test"] * 3
    frames = [np.full((48, 64, 3), _grey(k), np.uint8) for k in range(13)]
    for k, name in enumerate(names):
        write_media(root / name, frames=frames, sound=_noise(1.3, k))
    (root / "broken.mp4").write_bytes(b"")
    with (root / "manifest.csv").open("w", newline="") as file:
        labels = ["a", "b", HOSTILE_LABEL, "b", "a", "b", HOSTILE_LABEL, "a"]
        csv.writer(file).writerows([("path", "split", "label"), *zip(names, splits, labels, strict=True)])
    source = {
        "class_path": "ManifestSource",
        "init_args": {"path": str(root / "manifest.csv"), "label_column": "label"},
    }
    config = CONFIG | {
        "data": CONFIG["data"] | {"source": source},
        "trainer": CONFIG["trainer"] | {"default_root_dir": str(root / "a & <i>")},
    }
    (root / "mine.yaml").write_text(yaml.safe_dump(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice differs with the machine
        assert cli.main(["fit", "--config", str(root / "mine.yaml")]) == 0
    return root / "a & <i>" / "lightning_logs" / "version_0"


def _data(run: Path, **settings: Any) -> ClipDataModule:
    source = ManifestSource(path=run.parents[2] / "manifest.csv", label_column="label")
    return ClipDataModule(source=source, **{**CONFIG["data"], **settings})


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    """The page of the run, with two clips, as the command writes it."""
    out = run.parents[2] / "new" / "page.html"
    assert cli.main(["report", "--run", str(run), "--out", str(out), "--clips", "2"]) == 0
    return out.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice differs with the machine
def test_the_probe_that_the_page_proposes_runs(
    text: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = Page(text).text["pre"][-1].replace("\\\n", " ").splitlines()
    (probing,) = (shlex.split(line)[1:] for line in commands if line.startswith("diffmavil test"))
    assert "--run" in probing, "what the window and the model are, the checkpoint says"
    probing[probing.index("MANIFEST.csv")] = str(run.parents[2] / "manifest.csv")
    assert cli.main([*probing, "--data.num_workers", "0"]) == 0, capsys.readouterr().err


def test_the_page_stands_alone(text: str) -> None:
    page = Page(text)
    assert page.text["h2"] == [title for title in SECTIONS if title != "Results"]
    assert page.text["h3"][:5] == ["Commands", "Losses", "Schedules", "Cost", f"{HOSTILE_FILE} ({HOSTILE_LABEL})"]
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    for _, attrs in page.elements:
        assert not attrs.keys() & {"srcset", "action", "onload", "onerror"}
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#run").removeprefix("#") in ids
    assert not {"script", "link", "iframe", "b", "base"} & {tag for tag, _ in page.elements}
    assert "url(" not in text and "@import" not in text and "://" not in text
    assert "2 epochs, 4 steps, 8 clips seen" in page.text["table"][0]
    assert "4 train, 1 val, 3 test; 3 classes" in page.text["table"][0]
    assert "50.0 % of the audio patches" in page.text["table"][0]  # where the curriculum ended
    # 6 losses (the contrasts too), mask ratio, learning rate; a batch that stays as it is has no chart
    captions = page.text["figcaption"]
    assert captions[:6] == [
        "Loss: the weighted sum",
        "Reconstruction of the sound",
        "Reconstruction of the pictures",
        "Contrast of sound and picture",
        "Contrast of two views of the sound",
        "Contrast of two views of the pictures",
    ]
    assert captions[6:10] == [
        "Mask ratios",
        "Learning rate",
        "Compute of each epoch, by part of the model",
        "Seconds of each epoch",
    ]
    for picture in page.media("image/svg+xml"):
        assert picture.startswith(b"<?xml") and b"</svg>" in picture


def test_media_are_the_clips_and_play(run: Path, text: str, tmp_path: Path) -> None:
    page = Page(text)
    films = page.media("video/mp4")
    assert len(films) == 3  # the second clip that can be read is no format of browsers: only its film
    assert "browsers do not play .mkv" in page.text["article"][1]
    original = run.parents[2] / HOSTILE_FILE
    assert films[0] == original.read_bytes()
    film = tmp_path / "film.mp4"
    film.write_bytes(films[1])
    info = probe(film)
    assert info.video_s is not None and info.audio_s is not None
    assert info.video_s[1] == pytest.approx(4 / 6, abs=0.05)
    assert info.audio_s[1] == pytest.approx(4 / 6, abs=0.05)
    # the window of 0.8 s lies in the middle of 1.3 s, that of the 4 pictures (0.667 s) in its middle
    start_s = 0.25 + (0.8 - 4 / 6) / 2
    heard, expected = decode_audio(film, 0.0, 0.6, 16000), decode_audio(original, start_s, 0.6, 16000)
    assert np.corrcoef(heard, expected)[0, 1] > 0.9
    # the left third is the original, whose file has ten pictures a second
    seen = decode_frames(film, [(k + 0.5) / 6 for k in range(4)])
    assert seen.shape == (4, 64, 3 * 64 + 16, 3)
    shown = [int(10 * (start_s + k / 6)) for k in range(4)]
    assert shown == [3, 4, 6, 8]
    assert seen[:, 8:56, 8:56].mean((1, 2, 3)) == pytest.approx([_grey(k) for k in shown], abs=4)
    hidden = np.abs(seen[:, :, 72:136].astype(int) - 209).max(-1) < 12
    assert float(hidden.mean()) == pytest.approx(0.5, abs=0.1)
    pictures = [imread(io.BytesIO(picture)) for picture in page.media("image/png")]
    assert len(pictures) == 4 and all(picture.std() > 0.05 for picture in pictures)


def test_the_table_of_results(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_clips, "LARGEST_BYTES", 10)
    module = PretrainModule(model=mavil(size="nano"), audio_mask_ratio=0.5, video_mask_ratio=0.5)
    shared = {"metric": "accuracy", "chance": 0.1}
    results = [
        Result(task="probe <u>", start="pretrained", value=0.715, flops=None, seconds=3.21, **shared),
        Result(task="other", start="log-mel", value=1.0, flops=2_500_000_000, seconds=200.0, **shared),
        Result(task="probe <u>", start="untrained", value=0.75, flops=None, seconds=60.4, **shared),
    ]
    module.train()
    write_report(
        run=run,
        data=_data(run),
        module=module,
        results=results,
        commands=["echo '<p>' && x"],
        out=tmp_path / "r.html",
        clips=1,
    )
    assert module.training
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.text["h2"] == SECTIONS
    assert "The file is left out: it has 0.0 MiB." in page.text["article"][0]
    assert len(page.media("video/mp4")) == 1
    assert "echo '<p>' && x" in page.text["pre"]
    rows = page.text["tbody"][1:3]
    assert rows == [
        "probe <u> · accuracy, chance 10.0 % · pretrained minus untrained -3.5 points"
        "pretrained71.5 %–3.2 suntrained75.0 %–60 s",
        "other · accuracy, chance 10.0 %log-mel100.0 %2.5 G3.3 min",
    ]
    widths = [attrs["style"] for _, attrs in page.elements if attrs.get("style", "").startswith("width")]
    assert widths == ["width:71.50%", "width:75.00%", "width:100.00%"]
    alts = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
    assert alts[-1] == "Pictures in rows: original, visible, predicted"  # mask tokens: nothing noised to see


def test_what_a_run_does_not_have_is_left_out(run: Path, tmp_path: Path) -> None:
    module = PretrainModule(model=diffmavil_efficient(size="nano"), intra_weight=0.0)
    empty = tmp_path / "empty"
    empty.mkdir()
    out = empty / "page.html"
    write_report(run=empty, data=_data(run), module=module, results=[], commands=[], out=out, clips=0)
    page = Page(out.read_text(encoding="utf-8"))
    assert page.text["h2"] == ["What was run", "Where things are"]
    assert page.text["h3"] == ["Next"]
    assert "img" not in {tag for tag, _ in page.elements}
    with pytest.raises(ValueError, match="clips must be at least 0, got -1"):
        write_report(run=empty, data=_data(run), module=module, results=[], commands=[], out=out, clips=-1)
    with pytest.raises(ValueError, match=r"value must be in \[0, 1\], got 71.5"):
        Result(task="probe", start="pretrained", metric="accuracy", value=71.5, chance=0.1, flops=None, seconds=1.0)


def test_same_run_same_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for _ in range(2):
        assert cli.main(["report", str(run), "--clips", "2"]) == 0
        pages.append((run / "report.html").read_text(encoding="utf-8"))
    last, page = run / "checkpoints" / "last.ckpt", run / "report.html"
    assert capsys.readouterr().out == 2 * f"checkpoint {last}\nreport in {page}\n"
    assert pages[0] == pages[1]
    (run / "report.html").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no config", "run must be the folder of a run, with config.yaml in it, got"),
        ("no checkpoint", "run must have a checkpoint in its folder checkpoints, got"),
        ("no model", "config.yaml of the run must have model and data, got seed_everything"),
        ("another size", "does not fit the config: model.audio_encoder.patch_embed.weight is"),
        ("another module", "run must be one of a PretrainModule or a FineTuneModule, got one of LinearProbe"),
    ],
)
def test_a_folder_that_is_no_pretraining_run_is_refused_in_one_line(
    run: Path, tmp_path: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    if change == "no checkpoint":
        shutil.rmtree(folder / "checkpoints")
    elif change == "no model":
        config = {"seed_everything": 0}
    elif change == "another size":
        config["model"]["init_args"]["model"]["init_args"]["size"] = "tiny"
    elif change == "another module":
        backbone = config["model"]["init_args"]["model"]
        config["model"] = {"class_path": "diffmavil.modules.LinearProbe", "init_args": {"backbone": backbone}}
    path.write_text(yaml.safe_dump(config))
    if change == "no config":
        path.unlink()
    assert cli.main(["report", "--run", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (folder / "report.html").exists()


def test_numbers_as_they_are_written() -> None:
    assert [si(value) for value in (0, 999, 1e3, 25.34e9, 1.2e15)] == ["0 ", "999 ", "1 k", "25.3 G", "1.2 P"]
    assert [duration(value) for value in (0.123, 9.9, 42.4, 120.0, 7200.0)] == [
        "0.12 s",
        "9.9 s",
        "42 s",
        "2.0 min",
        "2.0 h",
    ]
