"""What of Lightning's callbacks and flags our schedules would override: refused before anything is computed.

The modules set the learning rate of every step, and the data module makes the batches of every epoch. A callback of
Lightning that sets either would report what it found or did, and the run would go on without it. docs/lightning.md
says of each callback and flag what becomes of it.
"""

from __future__ import annotations

from typing import Final

import lightning as L
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Callback,
    LearningRateFinder,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.utilities import rank_zero_info

INSTEAD: Final[dict[type[Callback], str]] = {
    LearningRateFinder: "model.lr: it is the peak of a schedule, which sets the rate of every step",
    BatchSizeFinder: "data.batch_size, or in pretraining the callback LargestBatch",
    StochasticWeightAveraging: "lightning.pytorch.callbacks.EMAWeightAveraging: the learning rate follows model.lr and "
    "model.warmup alone",
    BaseFinetuning: "model.layer_decay and model.head_lr_scale, or a LinearProbe: all weights are trained throughout",
}
"""What to use instead of a callback that would be overridden; of a class from elsewhere that extends it, too."""


def check_settings(trainer: L.Trainer) -> None:
    """Refuse callbacks that would be overridden, and a run whose schedules would have no end.

    Raises:
        ValueError: If there is one; the message says what to use.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        for kind, instead in INSTEAD.items():
            if isinstance(callback, kind):
                raise ValueError(f"{type(callback).__name__} cannot be used here; use {instead}")
    if trainer.state.fn != "fit":
        return
    if trainer.max_steps < 1 and (trainer.max_epochs is None or trainer.max_epochs < 0):
        raise ValueError(
            "trainer.max_epochs or trainer.max_steps must be set, got neither: the learning rate follows them "
            "(trainer.max_time only stops a run)"
        )
    if any(isinstance(callback, Timer) for callback in callbacks):
        rank_zero_info(
            "max_time stops a run wherever it is: the learning rate follows max_epochs and max_steps, and goes on from "
            "there when the run is resumed (--ckpt_path last)"
        )
