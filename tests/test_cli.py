from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CUDAAccelerator
from media import counter_frame, write_clip, write_media
from small import learner

from diffmavil import __version__, cli
from diffmavil.commands import configs
from diffmavil.commands.train import DiffmavilCLI
from diffmavil.models.pretrained import mark_checkpoint

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
model:
  class_path: PretrainModule
  init_args:
    model:
      class_path: diffmavil.models.diffmavil
      init_args:
        size: nano
data:
  source:
    class_path: FolderSource
    init_args:
      root: clips
  num_workers: 0
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder with ``mine.yaml``; gives exit code, stdout and stderr."""
    (tmp_path / "mine.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)

    def _run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(args))
        return code, *capsys.readouterr()

    return _run


@pytest.fixture
def packaged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packaged configs of our own."""
    root = tmp_path_factory.mktemp("configs")
    (root / "demo").mkdir()
    for name, epochs in (("one.yaml", 11), ("demo/two.yaml", 22)):
        (root / name).write_text(CONFIG.replace("max_epochs: 1", f"max_epochs: {epochs}"))
    monkeypatch.setattr(configs, "_configs_dir", lambda: root)
    return root


def _epochs(printed: str) -> Any:
    return yaml.safe_load(printed)["trainer"]["max_epochs"]


# --- help ---


def test_help_lists_every_command_and_config(run: Run, packaged: Path) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in ("fit", "validate", "test", "predict", "synth", "stats", "demo", "one.yaml", "demo/two.yaml"):
        assert f" {name}" in out
    assert run()[:2] == (0, out)
    assert run("--version")[:2] == (0, f"diffmavil {__version__}\n")


def test_help_shows_the_docstrings(run: Run) -> None:
    code, out, _ = run("fit", "--help")
    assert code == 0
    assert "--data.clip_s" in out
    assert "Window of sound in seconds" in out
    code, out, _ = run("fit", "--model.help", "PretrainModule")
    assert code == 0
    assert "Share of the spectrogram's patches hidden" in " ".join(out.split())
    code, out, _ = run("synth", "--help")
    assert code == 0
    assert "--out" in out


@pytest.mark.parametrize("name", sorted(cli.OTHER | cli.OWN_PARSER))
def test_every_other_command_has_its_function(name: str, run: Run) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"diffmavil {name}" in out


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'lightning', 'jsonargparse', 'av', 'numpy'}"
    code = f"import sys, diffmavil.cli; diffmavil.cli.main([]); sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


# --- configs ---


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"], ["-c", "{}"]])
def test_a_packaged_config_is_found_by_name(form: list[str], run: Run, packaged: Path) -> None:
    for name, epochs in (("one.yaml", 11), ("demo/two.yaml", 22)):
        code, out, _ = run("fit", *(part.format(name) for part in form), "--print_config")
        assert (code, _epochs(out)) == (0, epochs)


def test_a_file_in_the_working_directory_wins(run: Run, packaged: Path) -> None:
    Path("one.yaml").write_text(CONFIG.replace("max_epochs: 1", "max_epochs: 33"))
    assert _epochs(run("fit", "--config", "one.yaml", "--print_config")[1]) == 33


def test_a_flag_overrides_the_config(run: Run) -> None:
    args = ("--model.lr", "0.5", "--data.source.root", "there", "--model.model.rho=0.7")
    printed = yaml.safe_load(run("fit", "--config", "mine.yaml", *args, "--print_config")[1])
    assert printed["model"]["init_args"]["lr"] == 0.5
    assert printed["model"]["init_args"]["model"]["init_args"]["rho"] == 0.7
    assert printed["data"]["source"]["init_args"]["root"] == "there"


def test_what_print_config_prints_can_be_fed_back(run: Run) -> None:
    _, first, _ = run("fit", "--config", "mine.yaml", "--print_config")
    Path("again.yaml").write_text(first)
    assert run("fit", "--config", "again.yaml", "--print_config") == (0, first, "")


@pytest.mark.parametrize("name", configs.packaged_configs())
def test_every_packaged_config_fits_the_signatures(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(DiffmavilCLI, "instantiate_classes", lambda self: parsed.append(self))
    monkeypatch.setattr(DiffmavilCLI, "_run_subcommand", lambda *_: None)
    content = yaml.safe_load(Path(configs.find_config(name)).read_text())
    complete = "model" in content
    args = ["--config", name] if complete else ["--config", "mine.yaml", "--config", name]
    if complete and "source" not in content["data"]:  # the user's to give
        args += ["--data.source", "FolderSource", "--data.source.root", "clips"]
    code, _, err = run("fit", *args)
    assert (code, len(parsed)) == (0, 1), err


@pytest.mark.parametrize(
    ("args", "has_gpu", "chosen"),
    [
        ([], True, "bf16-mixed"),
        ([], False, "32-true"),
        (["--trainer.accelerator", "cpu"], True, "32-true"),
        (["--trainer.precision", "16-mixed"], True, "16-mixed"),
        (["--trainer.precision", "bf16-mixed"], False, "bf16-mixed"),
    ],
)
def test_the_precision_follows_the_device_unless_it_is_given(
    args: list[str], has_gpu: bool, chosen: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[DiffmavilCLI] = []
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: has_gpu)
    monkeypatch.setattr(DiffmavilCLI, "instantiate_classes", lambda self: parsed.append(self))
    monkeypatch.setattr(DiffmavilCLI, "_run_subcommand", lambda *_: None)
    code, _, err = run("fit", "--config", "pretrain.yaml", *args)
    assert code == 0, err
    assert parsed[0].config["fit"].trainer.precision == chosen


# --- errors ---


FINE = """
trainer: {accelerator: cpu, max_epochs: 1, logger: false, enable_progress_bar: false, enable_model_summary: false}
model:
  class_path: FineTuneModule
  init_args:
    backbone: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
    num_classes: 2
data:
  source: {class_path: ManifestSource, init_args: {path: clips.csv}}
  num_workers: 0
"""

SMALL = ["--data.clip_s", "0.64", "--data.num_frames", "2", "--data.fps", "5", "--data.image_size", "32"]


OWN_SOURCE = """
import json
from diffmavil.data import Clip, ClipSource

class JsonSource(ClipSource):
    def __init__(self, path: str):
        self.path = path

    def clips(self):
        with open(self.path) as file:
            return [Clip(path=row["path"]) for row in json.load(file)]
"""


def _empty_folder(root: Path) -> list[str]:
    (root / "clips").mkdir()
    return ["--config", "mine.yaml"]


def _unreadable_folder(root: Path) -> list[str]:
    (root / "clips").mkdir()
    (root / "clips" / "a.mp4").write_text("no film")
    return ["--config", "mine.yaml"]


def _clip_without_sound(root: Path) -> list[str]:
    write_clip(root / "clips" / "a.mp4", seconds=1.0)
    write_media(root / "clips" / "b.mp4", frames=[counter_frame(k) for k in range(10)])
    return ["--config", "mine.yaml", "--data.on_error", "raise", "--data.batch_size", "2", *SMALL]


def _own_source_with_a_broken_table(root: Path) -> list[str]:
    (root / "own.py").write_text(OWN_SOURCE)
    (root / "table.json").write_text("[{]")
    return ["--config", "mine.yaml", "--data.source", "own.JsonSource", "--data.source.path", "table.json"]


def _config_in_another_encoding(root: Path) -> list[str]:
    (root / "latin.yaml").write_bytes("# prétraining\n".encode("latin-1"))
    return ["--config", "latin.yaml"]


def _missing_label_column(root: Path) -> list[str]:
    (root / "clips.csv").write_text("path,split\na.mp4,train\n")
    (root / "fine.yaml").write_text(FINE)
    return ["--config", "fine.yaml", "--data.source.label_column", "kind"]


def _no_labels(root: Path) -> list[str]:
    write_clip(root / "a.mp4", seconds=1.0)
    (root / "clips.csv").write_text("path,split\na.mp4,train\n")
    (root / "fine.yaml").write_text(FINE)
    return ["--config", "fine.yaml", *SMALL]


def _checkpoint_of_another_shape(root: Path) -> list[str]:
    weights = {f"model.{key}": value for key, value in learner("mavil").state_dict().items()}
    checkpoint: dict[str, Any] = {"state_dict": weights}
    mark_checkpoint(checkpoint, "PretrainModule", "0")
    torch.save(checkpoint, root / "other.ckpt")
    (root / "clips").mkdir()
    return ["--config", "mine.yaml", "--ckpt_path", "other.ckpt"]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (_empty_folder, "root must hold media files such as .mp4 or .wav, found none in clips"),
        (_unreadable_folder, "none of the 1 clips can be read as audio_video"),
        (_clip_without_sound, "clips/b.mp4: no audio track"),
        (_own_source_with_a_broken_table, "Expecting property name"),
        (_config_in_another_encoding, "can't decode byte 0xe9"),
        (_missing_label_column, "kind"),
        (_no_labels, "the clips must have labels for fine-tuning, got none: set data.source.label_column"),
        (_checkpoint_of_another_shape, "checkpoint other.ckpt does not fit the config: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_about_files_gets_one_line(
    run: Run, tmp_path: Path, prepare: Callable[[Path], list[str]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = run("fit", *prepare(tmp_path))
    lines = [line for line in err.splitlines() if line.startswith("diffmavil: error: ")]
    assert code == 2, err
    assert len(lines) == 1 and said in lines[0], err
    assert "Traceback" not in err


def test_what_was_trained_is_validated_and_read_from(run: Run, tmp_path: Path, made_clips: Path) -> None:
    shutil.copytree(made_clips / "clips", tmp_path / "clips")
    small = ["--config", "mine.yaml", "--data.batch_size", "10", *SMALL]
    code, printed, err = run("stats", *small)
    assert code == 0 and printed.startswith("audio_mean: -"), err
    code, _, err = run("fit", *small, "--trainer.default_root_dir", "run", "--trainer.enable_checkpointing", "true")
    assert code == 0, err
    (checkpoint,) = map(str, (tmp_path / "run").rglob("*.ckpt"))
    code, printed, err = run("validate", *small, "--data.val_fraction", "0.3", "--ckpt_path", checkpoint)
    assert code == 0 and "val/loss" in printed, err
    code, _, err = run("predict", *small, "--ckpt_path", checkpoint)
    assert code == 0, err
    written = np.load(tmp_path / "predictions.npz")
    assert written["audio"].shape == written["video"].shape == (40, 128)


def test_a_folder_with_broken_files_is_trained_on(
    run: Run, tmp_path: Path, made_clips: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One file in five is broken, among them all that is held out: it finishes and says how many and why."""
    clips = tmp_path / "clips"
    (clips / "val").mkdir(parents=True)
    for path in sorted((made_clips / "clips").iterdir())[:8]:
        shutil.copy(path, clips / path.name)
    (clips / "val" / "held_out.mp4").touch()
    (clips / "text.mp4").write_text("renamed")
    logged = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "."]
    images = ["--trainer.callbacks+=ReconstructionImages", "--trainer.log_every_n_steps", "1"]
    code, _, err = run("fit", "--config", "mine.yaml", "--data.batch_size", "3", *SMALL, *logged, *images)
    assert code == 0, err
    assert "skipped 2 of 10 clips: " in caplog.text + err
    (table,) = tmp_path.glob("lightning_logs/*/skipped.csv")
    reasons = sorted(line.split(",")[1] for line in table.read_text().splitlines()[1:])
    assert reasons == ["empty file", "not a media file"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data.batch_sise", "3"], "unrecognized arguments: --data.batch_sise 3"),
        (["--model.lrr", "3"], "unknown key model.lrr"),
        (["--model.model.sise", "nano"], "unknown key model.model.sise"),
        (["--data.source.rot", "x"], "unknown key data.source.rot"),
        (["--trainer.max_epoch", "3"], "unrecognized arguments: --trainer.max_epoch 3"),
        (["--data.batch_size", "many"], "data.batch_size must be int, got many"),
        (["--data.on_error", "cry"], "data.on_error must be one of 'skip', 'raise', got cry"),
        (["--model.lr", "fast"], "model.lr must be float, got fast"),
        (["--trainer.max_epochs", "some"], "trainer.max_epochs must be int or null, got some"),
        (["--model", "NoModule"], "model: no class is named NoModule"),
        (["--trainer.callbacks+=NoCallback"], "trainer.callbacks: no class is named NoCallback"),
        (
            ["--model.model", "diffmavil.models.no"],
            "model.model: module 'diffmavil.models' has no attribute 'no'",
        ),
        (["--model.audio_mask_ratio", "1.2"], "audio_mask_ratio must be in [0, 1), got 1.2"),
        (["--data.clip_s", "0"], "clip_s must be above 0, got 0.0"),
        (["--trainer.accelerator", "abacus"], "invalid accelerator name: `accelerator='abacus'`"),
        (["--ckpt_path", "no.ckpt"], "checkpoint must be a file, got no.ckpt"),
        (["--config", "no.yaml"], "got no.yaml"),
        ([], "root must be a folder, got clips"),
    ],
)
def test_a_users_mistake_is_told_in_one_line(args: list[str], said: str, run: Run) -> None:
    code, _, err = run("fit", "--config", "mine.yaml", *args)
    last = err.rstrip("\n").split("\n")[-1]
    assert code == 2
    assert last.startswith("diffmavil: error: ")
    assert said in last
    assert len(last) < 500
    assert "Traceback" not in err
    if "--ckpt_path" not in args and args:  # nothing was built before the mistake was seen
        assert err.count("\n") <= 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("trainer: {max_epoch: 3}", "unknown key trainer.max_epoch"),
        ("modle: {class_path: PretrainModule}", "unknown key modle"),
        ("model: {init_args: {lrr: 3}}", "unknown key model.lrr"),
        ("trainer: [1,\n x: }", "Problems parsing config"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_line(content: str, said: str, run: Run) -> None:
    Path("bad.yaml").write_text(content)
    code, out, err = run("fit", "--config", "mine.yaml", "--config", "bad.yaml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_mistakes_around_the_command(run: Run, packaged: Path) -> None:
    assert run("fti")[0] == 2
    assert "must be one of fit, validate, test, predict, stats" in run("fti")[2]
    required = "diffmavil: error: the following arguments are required: data.source, model\n"
    assert run("fit") == (2, "", required)
    unknown = "diffmavil: error: --config must be a file or one of demo/two.yaml, one.yaml; got three.yaml\n"
    assert run("fit", "-c", "three.yaml") == (2, "", unknown)
    assert run("synth", "--out", "made", "--clips", "many") == (
        2,
        "",
        "diffmavil: error: clips must be int, got many\n",
    )


def test_debug_adds_the_traceback(run: Run) -> None:
    for args in (
        ["--debug", "synth", "--out", "x", "--clips", "0"],
        ["synth", "--out", "x", "--clips=0", "--debug"],
    ):
        code, _, err = run(*args)
        assert code == 2
        assert err.startswith("Traceback")
        assert err.endswith("diffmavil: error: clips must be at least 1, got 0\n")


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_configs", lambda args: 1 / 0)
    code, _, err = run("synth")
    assert code == 1
    assert err.startswith("Traceback")
    assert "ZeroDivisionError" in err


def test_a_value_error_of_a_library_is_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_configs", lambda args: torch.zeros(2).argsort(order="?"))
    assert run("synth")[0] == 1


def test_interruption_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(args: list[str]) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "find_configs", interrupt)
    assert run("synth") == (130, "", "diffmavil: interrupted\n")

    def exit_as_lightning_does(args: list[str]) -> list[str]:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    monkeypatch.setattr(cli, "find_configs", exit_as_lightning_does)
    assert run("synth") == (130, "", "diffmavil: interrupted\n")


# --- checkpoints ---


def test_a_checkpoint_that_is_not_ours_is_refused(run: Run) -> None:
    Path("text.ckpt").write_text("not a checkpoint")
    torch.save({"state_dict": {}}, "other.ckpt")
    for name in ("text.ckpt", "other.ckpt"):
        code, _, err = run("fit", "--config", "mine.yaml", "--ckpt_path", name)
        last = err.rstrip("\n").split("\n")[-1]
        assert (code, name in last, last.startswith("diffmavil: error: ")) == (2, True, True)


# --- module ---


def test_python_dash_m(tmp_path: Path) -> None:
    args = [sys.executable, "-m", "diffmavil", "synth", "--out", str(tmp_path), "--clips", "0"]
    root = str(Path(cli.__file__).parents[1])
    done = subprocess.run(args, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert (done.returncode, done.stderr) == (2, "diffmavil: error: clips must be at least 1, got 0\n")
