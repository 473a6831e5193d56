"""What a first run leaves behind: curves, figures in a file, a page, progress in a log."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffmavil import cli

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

SMALL = "--data.clip_s 0.48 --data.num_mel_bins 32 --data.num_frames 4 --data.fps 10 --data.image_size 32".split()
NANO = '{"class_path": "diffmavil.models.diffmavil", "init_args": {"size": "nano"}}'


class Story:
    """Commands that were run one after the other, and what they said."""

    def __init__(self, root: Path, clips: Path) -> None:
        self.root, self.said, self.warned = root, dict[str, str](), dict[str, list[str]]()
        self.data = ["--data.source.path", str(clips / "manifest.csv"), "--data.batch_size", "10", *SMALL]
        self.pretrained, self.tuned = root / "pretrain", root / "tune"

    def do(self, name: str, *args: str) -> None:
        out = io.StringIO()
        with redirect_stdout(out), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert cli.main(list(args)) == 0, args
        self.said[name] = out.getvalue()
        self.warned[name] = [str(warning.message) for warning in caught]

    def run(self, root: Path) -> Path:
        return root / "lightning_logs" / "version_0"


@pytest.fixture(scope="module")
def story(made_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Pretraining of two epochs and six steps, its audio probe twice, a fine-tuning from it and its test."""
    story = Story(tmp_path_factory.mktemp("first"), made_clips)
    source = ["--data.source", "ManifestSource", *story.data]
    epochs = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    place = ["--trainer.default_root_dir", str(story.pretrained)]
    story.do(
        "fit", "fit", "--config", "pretrain.yaml", "--model.model", NANO, *source, *epochs, *place,
        "--data.val_fraction", "0.3", "--data.batch_size", "6",
    )  # fmt: skip
    labels = ["--data.source.label_column", "label"]
    probe = ["test", "--config", "linear_probe.yaml", "--run", str(story.pretrained), *source, *labels]
    story.do("probe", *probe, "--model.modalities", "audio", "--data.modalities", "audio")
    story.do("probe again", *probe, "--model.modalities", "audio", "--data.modalities", "audio")
    tuned = ["--trainer.default_root_dir", str(story.tuned)]
    story.do(
        "tune", "fit", "--config", "demo/finetune.yaml", *story.data, *epochs, *tuned,
        "--run", str(story.pretrained), "--model.backbone", "null", "--data.val_fraction", "0.2",
    )  # fmt: skip
    story.do("test", "test", "--run", str(story.tuned))
    return story


def curves(run: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {name: {point.step: point.value for point in events.Scalars(name)} for name in events.Tags()["scalars"]}


def entries(run: Path, command: str) -> list[dict[str, Any]]:
    return [entry for entry in json.loads((run / "metrics.json").read_text()) if entry["command"] == command]


def test_a_run_of_a_few_steps_has_a_curve_of_all_of_them(story: Story) -> None:
    run = story.run(story.pretrained)
    (fit,) = entries(run, "fit")
    assert len(curves(run)["train/loss"]) == fit["step"] >= 4


def test_the_figures_of_a_training_are_those_of_its_curves(story: Story) -> None:
    run = story.run(story.pretrained)
    (fit,) = entries(run, "fit")
    logged = curves(run)
    last_epoch = [value for step, value in logged["train/loss"].items() if logged["epoch"][step] == 1]
    assert fit["epoch"] == 2 and fit["module"] == "PretrainModule"
    assert fit["metrics"]["train/loss"] == pytest.approx(np.mean(last_epoch), rel=1e-5)
    assert fit["metrics"]["val/loss"] == pytest.approx(list(logged["val/loss"].values())[-1], rel=1e-5)


@pytest.mark.parametrize(("command", "root"), [("probe", "pretrained"), ("test", "tuned")])
def test_the_score_of_a_test_is_in_the_folder_of_the_run_that_it_is_of(story: Story, command: str, root: str) -> None:
    (entry,) = entries(story.run(getattr(story, root)), "test")  # measured again, it takes the place of the one before
    (row,) = [line for line in story.said[command].splitlines() if "test/accuracy" in line]
    shown = float(row.replace("│", " ").split()[-1])
    assert entry["metrics"]["test/accuracy"] == pytest.approx(shown, abs=1e-6)
    assert "source.label_column label" in entry["settings"] or command == "test"
    assert entry["checkpoint"] == "last.ckpt" and "manifest.csv" in entry["data"]
    assert entry["module"] == {"probe": "LinearProbe", "test": "FineTuneModule"}[command]


def test_a_log_file_tells_how_far_a_run_is(story: Story) -> None:
    lines = [line for line in story.said["fit"].splitlines() if line.startswith("epoch")]
    assert [line.split(",")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all("train/loss" in line and "val/loss" in line and "v_num" not in line for line in lines)
    assert "\r" not in story.said["fit"] and "FLOPs: 0" not in story.said["fit"]


def test_nothing_is_said_of_workers_or_logging_intervals(story: Story) -> None:
    noise = [text for texts in story.warned.values() for text in texts if "worker" in text or "interval" in text]
    assert noise == []


def test_a_page_of_a_fine_tuning(story: Story, tmp_path: Path) -> None:
    story.do("report", "report", str(story.tuned), "--out", str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    began = f"began with checkpoint {story.run(story.pretrained)}/checkpoints/last.ckpt"
    for said in ("Report of a fine-tuning", "Accuracy", "test of FineTuneModule", "10 classes", "size nano", began):
        assert said in text
    assert "Reconstructions" not in text and "{" not in text.partition("</style>")[2]


def test_runs_side_by_side(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(story.pretrained), str(story.tuned)]
    page = tmp_path / "new" / "page.html"
    assert cli.main(["report", *runs, "--out", str(page)]) == 0
    text = page.read_text()
    (fit,) = entries(story.run(story.pretrained), "fit")
    (test,) = entries(story.run(story.tuned), "test")
    for said in ("pretrain", "tune", f"{fit['metrics']['val/loss']:.4g}", f"{test['metrics']['test/accuracy']:.4g}"):
        assert f">{said}</t" in text
    assert "train/loss" in text and text.count("<figure>") > 3 and "://" not in text
    assert cli.main(["report", runs[0], runs[0]]) == 2
    assert "runs must be different ones" in capsys.readouterr().err

    assert cli.main(["compare", *runs, runs[0]]) == 0
    lines = capsys.readouterr().out.splitlines()
    (header,) = [line for line in lines if line.startswith("per clip")]
    assert header.split() == ["per", "clip", "A", "B", "C", "B", "saves", "C", "saves"]
    (wall,) = [line.split() for line in lines if line.startswith("wall clock")]
    assert wall[3] == wall[5] and wall[-1] == "0.0%"
    (loss,) = [line.split() for line in lines if line.split()[:1] == ["val/loss"]]
    assert loss[1] == f"{fit['metrics']['val/loss']:.4g}" == loss[3]


def test_a_damaged_file_of_figures_is_refused_in_a_line(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").mkdir()
    (run / "compute.json").write_bytes((story.run(story.tuned) / "compute.json").read_bytes())
    for text in ("{}", "[{}]", '[{"command": "test", "metrics": {"a": "b"}}]', "["):
        (run / "metrics.json").write_text(text)
        assert cli.main(["compare", str(run), str(story.tuned)]) == 2
        error = capsys.readouterr().err
        assert "metrics.json: the file must hold" in error and error.count("\n") == 1
