"""Every way in: which weights a command begins with, for each logger and each way to name a checkpoint.

The table of docs/reliability.md, row by row. Weights are compared with those in the file, not with what is printed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffmavil import cli
from diffmavil.commands.train import ConfigError, train
from diffmavil.models.checkpoints import CheckpointError

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

CONFIG = """
seed_everything: 0
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 1
  limit_val_batches: 1
  limit_test_batches: 1
  limit_predict_batches: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  default_root_dir: runs
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, enable_version_counter: false}
model:
  class_path: FineTuneModule
  init_args:
    backbone: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
    modalities: audio
    num_classes: 10
    warmup: 0.0
data:
  source: {class_path: ManifestSource, init_args: {path: MANIFEST, label_column: label}}
  modalities: audio
  batch_size: 3
  num_workers: 0
  clip_s: 0.48
  num_mel_bins: 32
  val_fraction: 0.2
"""

LOGGERS: dict[str, tuple[list[str], str]] = {
    "the default": ([], "runs/lightning_logs/version_0"),
    "TensorBoardLogger": (
        ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=tb", "--trainer.logger.name=mine"],
        "tb/mine/version_0",
    ),
    "TensorBoardLogger with a version": (
        ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=tb", "--trainer.logger.version=first"],
        "tb/lightning_logs/first",
    ),
    "CSVLogger": (["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv"], "csv/lightning_logs/version_0"),
    "none": (["--trainer.logger=false"], "runs"),
    "none, and a ModelCheckpoint with a folder of its own": (
        ["--trainer.logger=false", "--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.dirpath=kept"]
        + ["--trainer.callbacks.save_last=true"],
        "kept",
    ),
}
"""Arguments that choose a logger, and the folder of the run that it leads to."""


@pytest.fixture(scope="module", params=LOGGERS)
def way(request: pytest.FixtureRequest, made_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """A training of one step with each logger."""
    folder = tmp_path_factory.mktemp("ways")
    (folder / "mine.yaml").write_text(CONFIG.replace("MANIFEST", str(made_clips / "manifest.csv")))
    return Way(folder, *LOGGERS[request.param])


class Way:
    """A folder in which commands run with one logger, after a training has written its last checkpoint there."""

    def __init__(self, folder: Path, logger: list[str], run: str) -> None:
        self.folder, self.logger, self.run = folder, logger, folder / run
        before = self.call("fit", "--ckpt_path", "last")
        assert before.trainer.global_step == 1, "where there is no checkpoint a training begins anew"
        (self.last,) = self.run.rglob("last.ckpt")
        self.trained: dict[str, torch.Tensor] = torch.load(self.last, weights_only=True)["state_dict"]

    def call(self, command: str, *args: str) -> Any:
        """Run a command in the folder."""
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            return train([command, "--config", "mine.yaml", *self.logger, *args])
        finally:
            os.chdir(here)

    def has_trained_weights(self, done: Any) -> bool:
        own = done.model.state_dict()
        return all(torch.equal(value, own[name]) for name, value in self.trained.items())


def test_last_is_what_was_trained_with_every_logger(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    for command in ("validate", "test", "predict") if len(way.logger) < 2 else ("test",):
        done = way.call(command, "--ckpt_path", "last")
        assert way.has_trained_weights(done)
        assert f"weights: checkpoint {way.last}" in caplog.messages
        caplog.clear()


def test_a_training_continues_from_last_with_every_logger(way: Way, tmp_path: Path) -> None:
    copy = Way.__new__(Way)
    copy.folder = shutil.copytree(way.folder, tmp_path / "copy")
    copy.logger = way.logger
    done = copy.call("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert done.trainer.global_step == 2
    assert int(done.trainer.optimizers[0].state_dict()["state"][0]["step"]) == 2, "the optimiser's state, too"
    if way.logger[:1] in ([], ["--trainer.logger=TensorBoardLogger"]):
        assert Path(done.trainer.log_dir).relative_to(copy.folder) == way.run.relative_to(way.folder)


# --- without a checkpoint, and with one that is not there ---


@pytest.fixture
def empty(made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("MANIFEST", str(made_clips / "manifest.csv")))
    return tmp_path


@pytest.mark.parametrize("logger", [arguments for arguments, _ in LOGGERS.values()], ids=list(LOGGERS))
def test_nothing_is_measured_where_there_is_no_last(
    empty: Path, logger: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("test",) if logger else ("validate", "test", "predict"):
        assert cli.main([command, "--config", "mine.yaml", *logger, "--ckpt_path", "last"]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("diffmavil: error: --ckpt_path last needs a last")
    assert not list(empty.rglob("predictions.npz"))


@pytest.mark.parametrize(
    ("command", "name"),
    [("test", "best"), ("fit", "best"), ("test", "hpc"), ("predict", "nothing.ckpt"), ("validate", "registry:model")],
)
def test_no_other_name_is_dropped_either(
    empty: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--config", "mine.yaml", "--trainer.logger=false", "--ckpt_path", name]) == 2
    assert "diffmavil: error: " in capsys.readouterr().err.splitlines()[-1]


def test_untrained_weights_are_measured_with_a_line(empty: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(["test", "--config", "mine.yaml", "--trainer.logger=false"])
    assert any(message.startswith("weights: untrained") for message in caplog.messages)


# --- which run is the newest ---


def _later(path: Path, seconds: float) -> None:
    at = path.stat().st_mtime + seconds
    os.utime(path, (at, at))


def test_the_newest_run_is_that_of_the_highest_number(empty: Path) -> None:
    train(["fit", "--config", "mine.yaml"])
    logs = empty / "runs" / "lightning_logs"
    for number in (2, 10):
        shutil.copytree(logs / "version_0", logs / f"version_{number}")
    _later(logs / "version_10" / "checkpoints" / "last.ckpt", -86400)  # the clock was set back
    done = train(["test", "--config", "mine.yaml", "--ckpt_path", "last"])
    assert done.taken.checkpoint == logs / "version_10" / "checkpoints" / "last.ckpt"


# --- a run by its folder ---


@pytest.fixture(scope="module")
def pretrained(made_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining of one step with a window and patches unlike the defaults."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "pretrain.yaml").write_text(
        CONFIG.partition("model:")[0]
        + f"""
model:
  class_path: PretrainModule
  init_args:
    model:
      class_path: diffmavil.models.diffmavil
      init_args: {{size: nano, audio_patch_size: [8, 32], video_patch_size: [2, 8, 8]}}
data:
  source: {{class_path: ManifestSource, init_args: {{path: {made_clips}/manifest.csv, label_column: label}}}}
  batch_size: 3
  num_workers: 0
  clip_s: 0.64
  num_mel_bins: 64
  audio_mean: -5.0
  audio_std: 3.0
  num_frames: 4
  fps: 8
  image_size: 32
  short_side: 40
"""
    )
    here = Path.cwd()
    os.chdir(folder)
    try:
        train(["fit", "--config", "pretrain.yaml"])
    finally:
        os.chdir(here)
    return folder / "runs"


WINDOW = {
    "clip_s": 0.64,
    "sample_rate_hz": 16000,
    "num_mel_bins": 64,
    "frame_shift_ms": 10.0,
    "audio_mean": -5.0,
    "audio_std": 3.0,
    "num_frames": 4,
    "fps": 8.0,
    "image_size": 32,
    "short_side": 40,
}

DOWNSTREAM = ["--data.num_workers", "0", "--data.batch_size", "10", "--trainer.accelerator", "cpu"]


def _run_and_version(root: Path) -> list[Path]:
    return [root, root / "lightning_logs" / "version_0"]


@pytest.fixture
def probe(made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    args = ["test", "--config", str(Path(cli.__file__).parents[1] / "configs" / "linear_probe.yaml"), *DOWNSTREAM]
    return lambda *more: train([*args, "--data.source.path", str(made_clips / "manifest.csv"), *more])


@pytest.mark.parametrize("which", [0, 1], ids=["root", "version"])
def test_a_probe_takes_window_and_model_from_a_run(pretrained: Path, probe: Callable[..., Any], which: int) -> None:
    done = probe("--run", str(_run_and_version(pretrained)[which]))
    window = done.datamodule.window.as_dict()
    assert {key: window[key] for key in done.datamodule.window.of("audio")} == {
        key: value for key, value in WINDOW.items() if key not in ("num_frames", "fps", "image_size", "short_side")
    }
    last = next(pretrained.rglob("last.ckpt"))
    weights = torch.load(last, weights_only=True)["state_dict"]
    own = done.model.audio_encoder.state_dict()
    assert own and all(torch.equal(value, weights[f"model.audio_encoder.{name}"]) for name, value in own.items())
    assert done.model.audio_encoder.patch_size == (8, 32)


def test_a_checkpoint_alone_suffices_and_what_differs_is_said(
    pretrained: Path, probe: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    last = next(pretrained.rglob("last.ckpt"))
    done = probe("--model.checkpoint", str(last))
    assert done.datamodule.window.num_mel_bins == 64
    assert not [message for message in caplog.messages if "another window" in message]
    caplog.clear()
    done = probe("--model.checkpoint", str(last), "--data.clip_s", "0.32", "--data.audio_mean=-4")
    (said,) = (message for message in caplog.messages if "another window" in message)
    assert said.endswith("data.clip_s is 0.32, not 0.64; data.audio_mean is -4, not -5")
    assert str(last) in said


def test_a_run_and_another_checkpoint_contradict_each_other(
    pretrained: Path, probe: Callable[..., Any], made_clips: Path, tmp_path: Path
) -> None:
    last = str(next(pretrained.rglob("last.ckpt")))
    with pytest.raises(CheckpointError, match=f"model.checkpoint must be left out .* got {last}"):
        probe("--run", str(pretrained), "--model.checkpoint", last)
    with pytest.raises(CheckpointError, match=f"ckpt_path must be left out .* got {last}"):
        train(["predict", "--run", str(pretrained), "--ckpt_path", last])


def test_a_checkpoint_that_says_nothing_of_its_window_is_used_with_a_line(
    pretrained: Path, probe: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(next(pretrained.rglob("last.ckpt")), weights_only=True)
    del content["diffmavil"]["origin"]  # as earlier versions wrote them
    torch.save(content, tmp_path / "old.ckpt")
    backbone = ["--model.backbone", "diffmavil.models.diffmavil", "--model.backbone.size", "nano"]
    probe("--model.checkpoint", "old.ckpt", *backbone, "--model.backbone.audio_patch_size", "[8, 32]")
    assert (
        "checkpoint old.ckpt does not say what it reads of a clip: the window is that of the config" in caplog.messages
    )


def test_what_cannot_fit_is_refused(
    pretrained: Path, made_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(next(pretrained.rglob("last.ckpt")))
    backbone = ["--model.backbone", "diffmavil.models.diffmavil", "--model.backbone.size", "nano"]
    args = ["test", "--config", "linear_probe.yaml", "--data.source.path", str(made_clips / "manifest.csv")]
    # the patches hold as many values, so that no weight's shape tells
    assert cli.main([*args, *DOWNSTREAM, "--model.checkpoint", last, *backbone]) == 2
    assert "its audio_patch_size is (8, 32), not (16, 16)" in capsys.readouterr().err


def test_fine_tuning_audio_needs_nothing_of_the_video_encoder(
    pretrained: Path, made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("MANIFEST", str(made_clips / "manifest.csv")))
    last = str(next(pretrained.rglob("last.ckpt")))
    patches = ["--model.backbone.audio_patch_size", "[8, 32]"]  # those of the video stay other than the checkpoint's
    done = train(["fit", "--config", "mine.yaml", "--model.checkpoint", last, *patches, "--trainer.fast_dev_run", "1"])
    assert done.model.model.audio_encoder.patch_size == (8, 32)


def test_a_run_is_predicted_with_tested_and_continued_by_its_folder(
    pretrained: Path, made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(pretrained, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    done = train(["predict", "--run", str(root), "--trainer.logger", "false", "--trainer.default_root_dir", "out"])
    assert done.datamodule.window.as_dict() == WINDOW
    assert (tmp_path / "out" / "predictions.npz").is_file()
    weights = torch.load(next(root.rglob("last.ckpt")), weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in done.model.state_dict().items())
    done = train(["fit", "--run", "moved", "--trainer.max_epochs", "2"])
    assert done.trainer.global_step == 2
    assert Path(done.trainer.log_dir).resolve() == (root / "lightning_logs" / "version_0").resolve()


def test_a_fine_tuned_run_is_tested_with_its_config_alone(
    pretrained: Path, made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = CONFIG.replace("MANIFEST", str(made_clips / "manifest.csv"))
    backbone = "    backbone: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}\n"
    window = "  clip_s: 0.48\n  num_mel_bins: 32\n"
    assert backbone in config and window in config
    (tmp_path / "mine.yaml").write_text(config.replace(backbone, "").replace(window, ""))
    tuned = train(["fit", "--config", "mine.yaml", "--run", str(pretrained)])
    assert tuned.datamodule.window.num_mel_bins == 64 and tuned.model.checkpoint is not None
    untouched = train(["test", "--run", "runs"])  # its config leaves the model to the pretraining
    tuned_weights = tuned.model.state_dict()
    assert all(torch.equal(value, tuned_weights[name]) for name, value in untouched.model.state_dict().items())
    again = [
        "fit",
        "--config",
        "mine.yaml",
        "--run",
        str(pretrained),
        "--ckpt_path",
        "last",
        "--trainer.max_epochs",
        "2",
    ]
    tuned = train(again)
    assert tuned.trainer.global_step == 2, "both the pretraining and the run that goes on are honoured"
    weights = tuned.model.state_dict()
    by_config = train(["test", "--config", "mine.yaml", "--ckpt_path", "last"])
    by_run = train(["test", "--run", "runs"])
    shutil.move(pretrained, pretrained.with_name("gone"))  # what is tuned needs nothing of it any more
    try:
        without = train(["test", "--run", "runs"])
    finally:
        shutil.move(pretrained.with_name("gone"), pretrained)
    for done in (by_config, by_run, without):
        assert done.datamodule.window == tuned.datamodule.window
        assert all(torch.equal(value, weights[name]) for name, value in done.model.state_dict().items())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["test", "--config", "linear_probe.yaml", "--ckpt_path", "last"],
            "ckpt_path must be left out for LinearProbe",
        ),
        (["test", "--config", "linear_probe.yaml"], "backbone must be given where there is no checkpoint"),
        (["predict", "--run", "nowhere"], "run must be a folder that exists, got nowhere"),
        (["predict", "--run", "mine.yaml"], "run must be a folder, got the file mine.yaml"),
        (["predict", "--run"], "run must be the folder of a run, got none"),
        (["predict", "--run", ".", "--run", "."], "run must be given once"),
        (["fit", "--config", "mine.yaml", "--ckpt_path", "s3://bucket/last.ckpt"], "must be a file of this machine"),
        (
            ["fit", "--config", "mine.yaml", "--ckpt_path", "last", "--trainer.default_root_dir", "s3://bucket"],
            "trainer.default_root_dir must be a folder of this machine",
        ),
        (["fit", "--config", "mine.yaml", "--run", "."], "run must be the folder of a run or one with runs below it"),
        (["report", "nowhere"], "run must be a folder that exists, got nowhere"),
    ],
)
def test_what_cannot_be_taken_from_a_run_is_one_line(
    empty: Path, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and not any("Traceback" in line for line in lines)


def test_a_file_does_not_say_what_is_imported(
    pretrained: Path, probe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(next(pretrained.rglob("last.ckpt")), weights_only=True)
    (tmp_path / "evil.py").write_text("open('executed', 'w')\n")
    content["diffmavil"]["origin"]["built"] = {"class_path": "evil.build", "init_args": {"size": "nano"}}
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(ConfigError, match=r"not imported on the word of a file.*--model.backbone evil.build"):
        probe("--model.checkpoint", "evil.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window", {"clip_s": 1e300}),
        ("window", {name: float("nan") for name in WINDOW}),
        ("window", [1, 2]),
        ("built", {"class_path": "diffmavil.models.diffmavil", "init_args": {"size": "huge"}}),
        ("built", {"class_path": "diffmavil.models.diffmavil", "init_args": {"depth": 3}}),
        ("built", {"class_path": "diffmavil.models.diffmavil", "init_args": {"audio_patch_size": [100000, 100000]}}),
        ("built", {"class_path": 3}),
        ("built", "diffmavil.models.diffmavil"),
        ("audio_patch_size", [0, 16]),
        ("video_patch_size", "large"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_not_trusted(
    pretrained: Path, probe: Callable[..., Any], tmp_path: Path, key: str, value: object
) -> None:
    content = torch.load(next(pretrained.rglob("last.ckpt")), weights_only=True)
    content["diffmavil"]["origin"][key] = value
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises((CheckpointError, ConfigError), match="checkpoint evil.ckpt"):
        probe("--model.checkpoint", "evil.ckpt")
