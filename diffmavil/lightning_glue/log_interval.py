"""How often a run logs, by how many steps it has.

The gap: Lightning logs every 50 steps, so that a run of 34 has no curve at all.
"""

from __future__ import annotations

from typing import Final

import lightning as L

MAX_INTERVAL: Final = 50
"""Steps from one point of a curve to the next in long runs: Lightning's own."""

_MIN_POINTS: Final = 50
"""Points that a curve is to have, where the run has as many steps."""


def log_interval(num_steps: int | float) -> int:
    """Steps from one point of a curve to the next.

    Args:
        num_steps: Steps of the whole run; infinite where that is not known.
    """
    return int(max(1, min(MAX_INTERVAL, num_steps // _MIN_POINTS)))


class LogInterval(L.Callback):
    """Chooses ``trainer.log_every_n_steps`` as the training starts, where the config leaves it open."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose it by the steps of the first epoch and the number of epochs."""
        steps = trainer.num_training_batches / trainer.accumulate_grad_batches
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else float("inf")
        most = trainer.max_steps if trainer.max_steps > 0 else float("inf")
        trainer.log_every_n_steps = log_interval(min(steps * epochs, most))  # type: ignore[attr-defined]
