"""A loss or gradient that is no number ends the training in one line, and never reaches the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small import learner, made_data, trainer
from torch import Tensor

from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.modules.base import TrainedModule
from diffmavil.modules.finite import NotFiniteError
from diffmavil.types import Batch, ModelOutput

BAD_STEP = 3


class Spoil(L.Callback):
    """Gives one clip of one step a value that is no number, on the last rank."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if trainer.global_step == BAD_STEP and trainer.global_rank == trainer.world_size - 1:
            assert batch.audio is not None
            batch.audio[0, 0, 0] = torch.nan


def _weights(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def _fit_until_it_stops(module: TrainedModule, made_clips: Path, folder: Path, *callbacks: L.Callback) -> str:
    saves = ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_last=True, save_top_k=-1, filename="{step}")
    saves_in_the_end = ModelCheckpoint(dirpath=folder / "end", save_on_exception=True)
    data = made_data(made_clips)
    with pytest.raises(NotFiniteError) as stop:
        trainer(folder, callbacks=[*callbacks, saves, saves_in_the_end]).fit(module, data)
    kept = [folder / "last.ckpt", *(folder / "end").glob("*.ckpt")]
    assert len(kept) == 2
    for path in kept:
        weights = _weights(path)
        assert all(value.isfinite().all() for value in weights.values())
        for name, value in _weights(folder / f"step={BAD_STEP}.ckpt").items():
            assert torch.equal(weights[name], value), "nothing has been saved or learned since the last good step"
    named = [clip.path for clip in data.clips if clip.path in str(stop.value)]
    assert len(named) == 3 and str(stop.value).count(" and 2 more") == 1, "a batch is of five clips"
    return str(stop.value)


def test_pretraining_names_the_term_the_step_and_the_clips(made_clips: Path, tmp_path: Path) -> None:
    module = PretrainModule(model=learner(), lr=1e-3, warmup=0.0, inter_weight=0.0, intra_weight=0.0)
    said = _fit_until_it_stops(module, made_clips, tmp_path, Spoil())
    both = "train/loss_reconstruction_audio is nan, train/loss_reconstruction_video is nan"
    assert said.startswith(f"{both} at step {BAD_STEP} (epoch 0), clips ")


def test_fine_tuning_stops_too(made_clips: Path, tmp_path: Path) -> None:
    module = FineTuneModule(backbone=learner(), num_classes=10)
    said = _fit_until_it_stops(module, made_clips, tmp_path, Spoil())
    assert said.startswith(f"train/loss is nan at step {BAD_STEP} (epoch 0), clips ")


class _Kink(PretrainModule):
    """One more term, 0 with a gradient that is no number: a square root at 0."""

    def losses(self, output: ModelOutput) -> dict[str, tuple[float, Tensor]]:
        terms = super().losses(output)
        if self.global_step == BAD_STEP:
            terms["loss_kink"] = 1.0, (output.audio_embeddings[0] * 0).square().sum().sqrt()
        return terms


def test_a_gradient_is_looked_at_too(made_clips: Path, tmp_path: Path) -> None:
    said = _fit_until_it_stops(_Kink(model=learner()), made_clips, tmp_path)
    assert said.startswith(f"gradient of model.audio_encoder.patch_embed.weight is nan at step {BAD_STEP} (epoch 0)")


def test_an_infinite_term_is_told_apart_from_a_term_that_is_no_number(made_clips: Path, tmp_path: Path) -> None:
    class Infinite(PretrainModule):
        def losses(self, output: ModelOutput) -> dict[str, tuple[float, Tensor]]:
            scale = torch.inf if self.global_step == BAD_STEP else 1.0
            return {**super().losses(output), "loss_mine": (1.0, output.audio_embeddings[0].abs().sum() * scale)}

    said = _fit_until_it_stops(Infinite(model=learner()), made_clips, tmp_path)
    assert said.startswith("train/loss_mine is infinite at step 3")
    assert "; the learning rate was " in said and "it is too high" in said


CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: saved, save_last: true, every_n_train_steps: 1}
model:
  class_path: PretrainModule
  init_args:
    model: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
data:
  source: {class_path: FolderSource, init_args: {root: CLIPS}}
  batch_size: 4
  num_workers: 0
  clip_s: 0.64
  num_frames: 2
  fps: 5.0
  image_size: 32
"""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(
            # a rate at which the first step throws the weights so far that the second finds no number
            ["--model.lr", "1e25", "--model.warmup", "0"],
            " at step 1 (epoch 0), clips ",
            id="diverged",
        ),
        pytest.param(
            ["--trainer.callbacks+=test_finite.Spoil", "--trainer.strategy", "ddp", "--trainer.devices", "2"],
            f" at step {BAD_STEP} (epoch 0) on rank 1, clips ",
            id="one_of_two_ranks",
            marks=[pytest.mark.ddp, pytest.mark.slow],
        ),
    ],
)
def test_the_command_says_it_in_one_line(args: list[str], said: str, made_clips: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("CLIPS", str(made_clips / "clips")))
    tests = Path(__file__).parent
    paths = os.pathsep.join(map(str, [tests.parents[1], tests, tests.parent]))
    done = subprocess.run(
        [sys.executable, "-m", "diffmavil", "fit", "--config", "mine.yaml", *args],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    lines = {line for line in done.stderr.splitlines() if line.startswith("diffmavil: error: ")}
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = lines
    assert "train/loss_reconstruction_audio is nan" in line and said in line and ".mp4" in line
    assert ("on rank 1" in line) == ("ddp" in args)
    assert all(value.isfinite().all() for value in _weights(tmp_path / "saved" / "last.ckpt").values())
