"""What all trained modules share: step sizes by progress, randomness by step, marked checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import AdamW

from diffmavil import __version__, keys
from diffmavil.models.pretrained import check_shapes, mark_checkpoint, weights_of
from diffmavil.modules.compilation import CompiledBlocks
from diffmavil.modules.finite import stop_where_not_finite
from diffmavil.schedules import warmup_cosine
from diffmavil.types import Batch


def run_progress(trainer: L.Trainer, batch_idx: int) -> float:
    """Share of a run that is done before batch ``batch_idx`` of the current epoch, in [0, 1].

    It counts epochs and the part of the current one, so it holds whatever the batch size does.
    """
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        done = batch_idx / trainer.num_training_batches if trainer.num_training_batches else 0.0
        return min((trainer.current_epoch + done) / trainer.max_epochs, 1.0)
    return min(trainer.global_step / trainer.max_steps, 1.0) if trainer.max_steps > 0 else 0.0


class TrainedModule(L.LightningModule, ABC):
    """Base of the modules that train a network.

    Args:
        warmup: Share of the run in which the learning rate rises, in [0, 1).
        lr_end: Learning rate at the end over the peak, in [0, 1].
        betas: AdamW's decay rates of the first and the second moment.
        seed: With epoch, step and rank it fixes all masks, noise and augmentation of a training step.
        compile: Train with compiled transformer blocks (torch.compile).

    Raises:
        ValueError: If ``warmup`` or ``lr_end`` is outside its range.
    """

    def __init__(self, *, warmup: float, lr_end: float, betas: tuple[float, float], seed: int, compile: bool) -> None:
        super().__init__()
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be in [0, 1), got {warmup}")
        if not 0 <= lr_end <= 1:
            raise ValueError(f"lr_end must be in [0, 1], got {lr_end}")
        self.warmup, self.lr_end, self.betas, self.seed = warmup, lr_end, betas, seed
        self._compiles = compile
        self.compiled: CompiledBlocks | None = None
        """The compiled blocks of a training, if it compiles any."""
        self.lr_scale = 1.0
        """Factor on every learning rate, for a batch whose size changes."""

    @classmethod
    def kind(cls) -> str:
        """What checkpoints say they are of: the class, or for a subclass from elsewhere the one of ours it extends."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("diffmavil."))

    @abstractmethod
    def forward_flops(
        self, audio_size: tuple[int, int] | None, video_size: tuple[int, int, int] | None
    ) -> dict[str, int]:
        """Forward FLOPs of one training clip by part, at the settings in force.

        Args:
            audio_size: Spectrogram frames and mel bins; ``None`` where the clips have no sound.
            video_size: Frames, height and width (pixels); ``None`` where they have no pictures.
        """

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser, each with its ``peak_lr``."""

    def configure_optimizers(self) -> AdamW:
        """AdamW; its step sizes are set at every step from the progress of the run."""
        # Lightning's fp16 scaler cannot clip the gradients of a fused optimiser
        return AdamW(self.parameter_groups(), betas=self.betas, fused=self.trainer.precision != "16-mixed")

    def on_fit_start(self) -> None:
        """Compile, where that is wanted."""
        if self._compiles and self.compiled is None:
            self.compiled = CompiledBlocks(self)

    def on_train_start(self) -> None:
        """Let the settings of this run stand where a checkpoint brought its own."""
        groups = self.trainer.optimizers[0].param_groups
        for group, wanted in zip(groups, self.parameter_groups(), strict=True):
            group.update({name: value for name, value in wanted.items() if name != "params"}, betas=self.betas)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set step sizes and seed the step."""
        factor = warmup_cosine(run_progress(self.trainer, batch_idx), warmup=self.warmup, end=self.lr_end)
        factor *= self.lr_scale
        groups = self.trainer.optimizers[0].param_groups
        for group in groups:
            group["lr"] = group["peak_lr"] * factor
        self.log(keys.LR, max(group["lr"] for group in groups))
        self._index = batch.index
        self.seed_step(self.current_epoch, batch_idx)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, and look at them and at the loss before the optimiser does.

        Raises:
            NotFiniteError: If one of them is infinite or no number.
        """
        super().backward(loss, *args, **kwargs)
        stop_where_not_finite(self, loss, self._index)

    def on_train_epoch_end(self) -> None:
        """Log how much has been compiled so far."""
        if self.compiled is not None:
            self.log(keys.COMPILATIONS, float(self.compiled.count))

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the step, alike in every epoch, so that validation losses compare."""
        self.seed_step(-1, batch_idx)

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the step."""
        self.seed_step(-1, batch_idx)

    def seed_step(self, epoch: int, batch_idx: int) -> None:
        """Make all that is drawn from here on a function of seed, epoch, step and rank."""
        seed = ((self.seed * 1_000_003 + epoch + 1) * 1_000_003 + batch_idx) * 4099 + self.global_rank
        torch.manual_seed(seed % 2**63)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint as ours."""
        mark_checkpoint(checkpoint, self.kind(), __version__)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not ours or does not fit, in one line.

        Raises:
            CheckpointError: If so.
        """
        name = "the checkpoint"
        state: dict[str, Tensor] = weights_of(checkpoint, module=self.kind(), name=name)
        check_shapes(state, self, name)
        _begin_next_epoch(checkpoint)


def _begin_next_epoch(checkpoint: dict[str, Any]) -> None:
    """Make of a checkpoint that was written when an epoch's batches were done one of the start of the next epoch.

    Lightning would compare the count of batches with the length of the loader at hand, which may be the next epoch's
    and differ where the batch size changes, and does not count the epoch after it (2.6: a checkpoint that was written
    in the epoch after such a resume begins that epoch anew).
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    batches = fit_loop.get("epoch_loop.batch_progress", {})
    if batches.get("is_last_batch"):
        batches["is_last_batch"] = False
        batches["current"] = dict.fromkeys(batches["current"], 0)
        for counts in (batches["total"], *fit_loop["epoch_progress"].values()):
            counts |= dict.fromkeys(counts, counts["ready"])
        # the step under which is logged
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
