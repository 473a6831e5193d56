"""Metrics that callbacks watch and that a training never logs: refused, as such a run keeps no checkpoint.

Lightning itself refuses some of them, and only warns of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from diffmavil.data import ClipDataModule


def check_monitors_at_start(trainer: L.Trainer, data: ClipDataModule | None) -> None:
    """Refuse to watch a metric of the validation where nothing is validated.

    Args:
        trainer: The trainer.
        data: Its data; ``None`` where they are none of ours.

    Raises:
        ValueError: If a callback watches one.
    """
    if data is None or (len(data.split_indices["val"]) and trainer.limit_val_batches):
        return
    for name, monitor in _monitors(trainer):
        if monitor.startswith("val/"):
            raise ValueError(
                f"{name}.monitor must be a metric that is logged, got {monitor}, and nothing is validated: set "
                "data.val_fraction, or watch a metric of the training such as train/loss"
            )


def check_monitors_at_end(trainer: L.Trainer) -> None:
    """Refuse to watch a metric that a whole epoch has not logged, nor the validation where there is one.

    Raises:
        ValueError: If a callback watches one.
    """
    logged = [*trainer.callback_metrics, "epoch", "step"]
    if not any(name.startswith("train/") for name in logged):
        return  # the epoch was resumed behind its last step
    is_open = sum(trainer.num_val_batches) > 0 and not any(name.startswith("val/") for name in logged)
    for name, monitor in _monitors(trainer):
        if monitor not in logged and not (is_open and not monitor.startswith("train/")):  # it may come in a later epoch
            near = get_close_matches(monitor, logged, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            rule = f"must be a metric that is logged, one of {', '.join(sorted(logged))}"
            raise ValueError(f"{name}.monitor {rule}, got {monitor}{meant}")


def _monitors(trainer: L.Trainer) -> Iterator[tuple[str, str]]:
    """Names of the callbacks that watch a metric and cannot do without it, and of that metric."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        needs = isinstance(callback, ModelCheckpoint) or (isinstance(callback, EarlyStopping) and callback.strict)
        if needs and (monitor := getattr(callback, "monitor", None)) is not None:
            yield type(callback).__name__, monitor
