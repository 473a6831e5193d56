"""The figures of a run in a file: losses of its training, scores of what was tested."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffmavil.data.atomic import make_folder, whole_file
from diffmavil.data.shards.lock import locked
from diffmavil.metrics_file import METRICS, read_metrics
from diffmavil.modules.base import TrainedModule
from diffmavil.types import Batch

_LOG: Final = logging.getLogger(__name__)


class MetricsWriter(L.Callback):
    """Writes ``metrics.json`` into the folder of the run whose weights are trained or measured.

    It holds a list of entries (:mod:`diffmavil.metrics_file`): one of the training, written after each epoch (means
    over the epoch of the points of the training's curves, and the last validation), and one of each test and
    validation. An entry takes the place of an earlier one of the same command, module, data and settings.

    Args:
        about: What is measured: ``command``, ``module``, ``modalities``, ``data``, ``settings`` and the like.
        run: Folder of the run; ``None``: the one that the trainer writes to.
    """

    def __init__(self, *, about: dict[str, str], run: Path | None = None) -> None:
        self.about, self.run = about, run
        self._sums: dict[str, Tensor] = {}
        self._batches = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the means of the epoch."""
        self._sums, self._batches = {}, 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add what the step logged, where it goes to the curves: at other steps nothing is to wait for the device."""
        every: int = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        is_last = batch_idx + 1 == trainer.num_training_batches or trainer.global_step == trainer.max_steps
        if trainer.global_step % every and not (is_last and self._batches == 0):
            return
        self._batches += 1
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/"):
                self._sums[name] = self._sums.get(name, value.new_zeros(())) + value.detach()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the entry of the training anew."""
        metrics = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        metrics |= {name: total / self._batches for name, total in self._sums.items()}
        if isinstance(pl_module, TrainedModule):
            pl_module.require_run_folder()
        self._write(trainer, pl_module, metrics, epoch=trainer.current_epoch + 1, step=trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the entry of ``diffmavil validate``."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module, dict(trainer.callback_metrics))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the entry of the test."""
        self._write(trainer, pl_module, dict(trainer.callback_metrics))

    def _write(
        self, trainer: L.Trainer, pl_module: L.LightningModule, metrics: dict[str, Tensor], **counts: int
    ) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # log_dir is a broadcast: all ranks must ask
        if trainer.is_global_zero and metrics and "://" not in str(folder):
            values = {name: float(value) for name, value in sorted(metrics.items())}
            figures = {name: value if math.isfinite(value) else None for name, value in values.items()}
            path = (self.run or folder) / METRICS
            written = datetime.now(UTC).isoformat(timespec="seconds")
            entry = self.about | counts | {"written": written, "metrics": figures}
            try:
                self._add(path, entry)
            except OSError as error:  # what was measured is on the screen, and a training goes on
                _LOG.warning(f"{path} could not be written: {error.strerror or error}")
            else:
                if not counts:
                    rank_zero_info(f"metrics in {path}")

    def _add(self, path: Path, entry: dict[str, Any]) -> None:
        """Put an entry into a file, in place of an earlier one of the same; other processes wait for it."""
        make_folder(path.parent)
        with locked(path.with_name(f".{path.name}.lock"), wait=True):
            try:
                entries = read_metrics(path)
            except ValueError as error:
                aside = path.with_name(f"{path.name}.damaged")
                path.replace(aside)
                _LOG.warning(f"{error}; it is kept as {aside.name}")
                entries = []
            others = [old for old in entries if any(old.get(key) != value for key, value in self.about.items())]
            with whole_file(path) as file:
                file.write((json.dumps([*others, entry], indent=2, allow_nan=False) + "\n").encode())
