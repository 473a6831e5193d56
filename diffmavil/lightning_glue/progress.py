"""How far a run is: a bar on a terminal, elsewhere a line every half minute.

The gap: Lightning's bars count epochs from 0 up to a last one that is one too low ("Epoch 1/1" in the second of two),
and in a log file they print nothing, or thousands of lines.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar

from diffmavil import keys
from diffmavil.checks import check_number

_VALIDATED: Final = tuple(f"val/{name}" for name in (keys.LOSS, keys.ACCURACY, keys.MAP))

_INTERVAL_S: Final = 30.0
"""Seconds from one line to the next."""


def progress_bar() -> ProgressBar:
    """What suits where the output goes: a bar needs a terminal of known width."""
    is_terminal = sys.stdout.isatty() and os.get_terminal_size(sys.stdout.fileno()).columns > 0
    return EpochBar() if is_terminal else ProgressLines()


def epoch_name(trainer: L.Trainer) -> str:
    """The epoch that is under way, counted from 1: ``epoch 2 of 20``."""
    most = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f" of {most}" if most is not None and most > 0 else "")


class EpochBar(TQDMProgressBar):
    """Lightning's bar, with epochs counted from 1."""

    def __init__(self) -> None:
        super().__init__()

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Say which epoch it is."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(epoch_name(trainer).capitalize())


class ProgressLines(ProgressBar):
    """A line every half minute, and one at the end of each epoch: where the run is, how fast, how long it may take.

    Args:
        interval_s: Seconds from one line to the next, above 0.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, interval_s: float = _INTERVAL_S) -> None:
        super().__init__()
        check_number("interval_s", interval_s, above=0, limit=86_400)
        self._interval_s = interval_s
        self._is_enabled = True
        self._began = self._said = time.monotonic()
        self._batches = 0

    def disable(self) -> None:
        """Say nothing: what the trainer asks of all processes but the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """Say it again."""
        self._is_enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of an epoch that is resumed in its middle."""
        self._begin()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where it is, where it is time for that or the epoch ends."""
        self._batches += 1
        total = self.total_train_batches
        if self._is_time() and batch_idx + 1 < total:
            self._say(epoch_name(trainer), batch_idx + 1, total, self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how it ended, with what was validated."""
        metrics = self.get_metrics(trainer, pl_module)
        found = trainer.callback_metrics
        metrics |= {name: found[name].item() for name in _VALIDATED if name in found}
        self._say(epoch_name(trainer), trainer.num_training_batches, trainer.num_training_batches, metrics)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begin()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begin()

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Say where it is, where it is time for that."""
        if not trainer.sanity_checking and self._is_time():
            batches = _first(trainer.num_val_batches)
            self._say(self.validation_description.lower(), args[2] + 1, batches, says_left=False)

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Say where it is, where it is time for that."""
        self._batches += 1
        if self._is_time():
            self._say(self.test_description.lower(), args[2] + 1, _first(trainer.num_test_batches))

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Say where it is, where it is time for that."""
        self._batches += 1
        if self._is_time():
            self._say(self.predict_description.lower(), args[2] + 1, _first(trainer.num_predict_batches))

    def _begin(self) -> None:
        self._began, self._batches = time.monotonic(), 0

    def _is_time(self) -> bool:
        return self._is_enabled and time.monotonic() - self._said >= self._interval_s

    def _say(
        self,
        what: str,
        done: int | float,
        total: int | float,
        metrics: dict[str, Any] | None = None,
        *,
        says_left: bool = True,
    ) -> None:
        if not self._is_enabled:
            return
        self._said = time.monotonic()
        parts = [what, f"batch {done} of {total}"]
        if says_left and self._batches and done < total:
            left_s = (self._said - self._began) / self._batches * (total - done)
            parts.append(
                f"about {left_s / 60:.0f} min left of it" if left_s >= 90 else f"about {left_s:.0f} s left of it"
            )
        shown = {name: value for name, value in (metrics or {}).items() if name != "v_num"}
        parts += [f"{name} {value:.4g}" for name, value in shown.items() if isinstance(value, (int, float))]
        print(", ".join(parts), flush=True)


def _first(batches: Any) -> int | float:
    """Batches of the only loader."""
    first: int | float = batches[0] if isinstance(batches, list) else batches
    return first
