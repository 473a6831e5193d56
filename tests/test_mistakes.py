"""A user's mistake is told in one line, and loses nothing."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_config import Run
from media import counter_frame, write_clip, write_media
from small import learner

from diffmavil import cli
from diffmavil.models.checkpoints import mark_checkpoint

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

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
    checkpoint: dict[str, Any] = {
        "state_dict": weights,
        "pytorch-lightning_version": "2.6.0",
        "epoch": 0,
        "global_step": 0,
    }
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
        (["--model.audio_mask_ratio", "1.2"], "error: model.audio_mask_ratio must be in [0, 1), got 1.2"),
        (["--data.clip_s=0"], "error: data.clip_s must be above 0, got 0.0"),
        (["--data.fps", "-1", "--data.source.root=x"], "error: data.fps must be above 0, got -1.0"),
        (["--data.source.root", "x"], "error: data.source.root must be a folder, got x"),
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model: {init_args: {lr: .nan}}", "model.lr must be above 0, got nan"),
        ("model: {init_args: {betas: [0.9, 1.5]}}", "model.betas must be in [0, 1), got (0.9, 1.5)"),
        ("model: {init_args: {seed: -1}}", "model.seed must be at least 0, got -1"),
        ("data: {image_size: 1000000}", "data.image_size must be at most 4096, got 1000000"),
        ("data: {clip_s: 4.1}", "data.clip_s must give a multiple of 16 spectrogram frames"),
        (
            "data: {num_mel_bins: 50}",
            "data.num_mel_bins must be a multiple of 16, the side of a patch, such as",
        ),
        (
            "data: {num_frames: 3}",
            "data.num_frames must be a multiple of 2, the side of a patch, such as 2 or 4",
        ),
        ("model: {init_args: {model: {init_args: {rho: .inf}}}}", "model.model.rho must be at most 1000, got inf"),
        (
            "trainer: {callbacks: [{class_path: ComputeAccounting, init_args: {peak_tflops_per_s: -1}}]}",
            "trainer.callbacks.peak_tflops_per_s must be above 0, got -1",
        ),
        ("seed_everything: -1", "seed_everything must be at least 0, got -1"),
        ("trainer: {default_root_dir: /proc/nowhere/x, logger: true}", "trainer.default_root_dir: "),
        ("trainer: {accelerator: tpu}", "trainer (accelerator: tpu): "),
        ("trainer: {callbacks: [{class_path: DeviceStatsMonitor}], logger: true}", "psutil"),
        ("trainer: {callbacks: [{class_path: LearningRateMonitor}]}", "that has no logger"),
        (
            "trainer: {log_every_n_steps: 1, logger: true, "
            "callbacks: [{class_path: ModelCheckpoint, init_args: {monitor: val/loss}}]}",
            "ModelCheckpoint.monitor must be a metric that is logged, got val/loss, and nothing is validated",
        ),
    ],
)
def test_a_number_is_named_by_its_whole_key_also_from_a_file(
    content: str, said: str, run: Run, made_clips: Path
) -> None:
    if said == "psutil" and importlib.util.find_spec("psutil"):
        pytest.skip("it is there")
    shutil.copytree(made_clips / "clips", "clips")
    Path("bad.yaml").write_text(content)
    small = ["--data.batch_size", "10"] + (SMALL if "callbacks: [{class_path" in content or "root_dir" in said else [])
    code, _, err = run("fit", "--config", "mine.yaml", "--config", "bad.yaml", *small)
    assert code == 2 and err.splitlines()[-1].startswith("diffmavil: error: ") and said in err.splitlines()[-1], err
    assert "Traceback" not in err and not Path("lightning_logs").exists()


def test_early_stopping_on_no_such_metric_is_one_line(run: Run, made_clips: Path) -> None:
    shutil.copytree(made_clips / "clips", "clips")
    stop = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val_loss"]
    some = ["--data.val_fraction", "0.3", "--trainer.limit_train_batches", "1", "--data.batch_size", "5"]
    code, _, err = run("fit", "--config", "mine.yaml", *SMALL, *some, *stop)
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("diffmavil: error: EarlyStopping.monitor must be a metric that is logged"), err
    assert last.endswith("got val_loss; did you mean val/loss?")
    assert "Traceback" not in err and len(last) < 500


def test_a_long_value_is_cut(run: Run) -> None:
    code, _, err = run("fit", "--config", "mine.yaml", "--trainer.callbacks", "x" * 5000)
    assert code == 2 and len(err) < 520 and "trainer.callbacks" in err and " ... " in err


def test_mistakes_around_the_command(run: Run, packaged: Path) -> None:
    assert run("fti")[0] == 2
    assert "must be one of fit, validate, test, predict, stats" in run("fti")[2]
    required = "diffmavil: error: the following arguments are required: data.source, model\n"
    assert run("fit") == (2, "", required)
    unknown = "diffmavil: error: --config must be a file or one of demo/two.yaml, one.yaml; got three.yaml\n"
    assert run("fit", "-c", "three.yaml") == (2, "", unknown)
    (code, _, err) = run(
        "prepare", "--source", "FolderSource", "--source.root", ".", "--out", "o", "--stored.fps", "999"
    )
    assert (code, err) == (2, "diffmavil: error: stored.fps must be in (0, 240], got 999.0\n")
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


TERMINATE = """
import os, signal
from lightning.pytorch import Callback

class Terminate(Callback):
    def on_train_batch_end(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_terminated_training_did_not_end_well(
    run: Run, tmp_path: Path, made_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made_clips / "clips", tmp_path / "clips")
    (tmp_path / "terminate.py").write_text(TERMINATE)
    monkeypatch.syspath_prepend(tmp_path)
    more = ["--data.batch_size", "10", *SMALL, "--trainer.callbacks+=terminate.Terminate"]
    code, _, err = run("fit", "--config", "mine.yaml", *more)
    assert code == 143 and err.splitlines()[-1] == "diffmavil: terminated" and "Traceback" not in err, err


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
