"""Which run ``--ckpt_path last`` means, and what it does with its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import AUDIO_SIZE, VIDEO_SIZE

from diffmavil import cli

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.fixture
def command(made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a small training; it writes a checkpoint after every second step, six of which make an epoch."""
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "run.yaml").write_text(
        f"""
trainer:
  accelerator: cpu
  max_epochs: 2
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  default_root_dir: {tmp_path.name}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{save_last: true, every_n_train_steps: 2}}
model:
  class_path: PretrainModule
  init_args:
    model: {{class_path: diffmavil.models.diffmavil, init_args: {{size: nano}}}}
data:
  source: {{class_path: ManifestSource, init_args: {{path: {made_clips}/manifest.csv, label_column: label}}}}
  batch_size: 5
  num_workers: 0
  clip_s: {AUDIO_SIZE[0] / 100}
  num_mel_bins: {AUDIO_SIZE[1]}
  num_frames: {VIDEO_SIZE[0]}
  fps: 10.0
  image_size: {VIDEO_SIZE[1]}
"""
    )
    return ["--config", str(tmp_path / "run.yaml"), "--ckpt_path", "last"]


def test_the_newest_run_is_gone_on_with_and_tested(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "lightning_logs"
    assert cli.main(["test", *command]) == 2
    assert f"needs a last checkpoint under {tmp_path}, got none" in capsys.readouterr().err
    assert cli.main(["fit", *command, "--trainer.max_steps", "4"]) == 0
    assert [run.name for run in runs.iterdir()] == ["version_0"]

    curves = {path: path.read_bytes() for path in runs.rglob("events*")}
    assert cli.main(["validate", *command, "--data.val_fraction", "0.2"]) == 0
    assert {path: path.read_bytes() for path in curves} == curves, "measuring adds nothing to the training's curves"
    assert (runs / "version_1").is_dir()

    capsys.readouterr()
    assert cli.main(["fit", *command, "--data.batch_size", "6"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "data.batch_size times the number of processes must be 5" in said and said.endswith("goes on with any")

    config = (runs / "version_0" / "config.yaml").read_text()
    assert cli.main(["fit", *command, "--model.model.size", "tiny"]) == 2
    assert (runs / "version_0" / "config.yaml").read_text() == config, "what is refused leaves the run as it was"

    assert cli.main(["fit", *command]) == 0
    assert (runs / "version_0" / "checkpoints" / "epoch=1-step=12.ckpt").is_file()
    assert cli.main(["fit", *command, "--data.batch_size", "6", "--trainer.max_epochs", "3"]) == 0, (
        "from an epoch's end"
    )
    checkpoints = runs / "version_0" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["epoch=2-step=16.ckpt", "last.ckpt"]
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 16
