"""How many epochs a run has, where ``max_steps`` may end it before ``max_epochs`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler


def epochs_of_run(trainer: L.Trainer, steps_of_epochs: Callable[[int], Sequence[int]]) -> int | None:
    """Epochs that a run begins, the last perhaps cut off; ``None`` where nothing ends it.

    Args:
        trainer: Whose limits hold.
        steps_of_epochs: Steps of each epoch of a run of so many epochs, all of them at least 1.
    """
    most = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
    if trainer.max_steps < 1:
        return most

    def enough(epochs: int) -> bool:
        return sum(steps_of_epochs(epochs)) >= trainer.max_steps

    if most is not None and not enough(most):
        return most
    fewer, epochs = 0, 1
    while not enough(epochs):
        fewer, epochs = epochs, 2 * epochs
    while epochs - fewer > 1:
        middle = (fewer + epochs) // 2
        fewer, epochs = (fewer, middle) if enough(middle) else (middle, epochs)
    return epochs


def batches_of_epoch(trainer: L.Trainer, clips: int, batch_size: int) -> int:
    """Batches of an epoch of so many clips, within ``trainer.limit_train_batches``.

    Args:
        trainer: Whose processes share the clips.
        clips: Clips of the epoch, those of all processes together.
        batch_size: Clips of a batch on one process.
    """
    batches, limit = clips // (batch_size * trainer.world_size), trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def steps_of_epoch(trainer: L.Trainer, epoch: int, batches: int) -> int:
    """Optimiser steps of an epoch of so many batches: fewer, where gradients are accumulated over several."""
    accumulate = trainer.accumulate_grad_batches
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            accumulate = callback.get_accumulate_grad_batches(epoch)
    return max(ceil(batches / accumulate), 1)
