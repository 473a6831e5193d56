"""What a run costs: FLOPs, seconds, clips a second, memory."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from diffmavil import keys
from diffmavil.checks import check_number
from diffmavil.flops import TRAINING_FACTOR
from diffmavil.modules.base import TrainedModule
from diffmavil.types import Batch


class ComputeAccounting(L.Callback):
    """Counts what training costs, logs it, and writes ``compute.json`` into the run folder after every epoch.

    FLOPs follow from the formula in ``diffmavil.flops``, the ratios and the batch of each step. Seconds are wall clock:
    ``data_s`` from the end of a step to the start of the next (waiting for workers, transfer, spectrograms) and
    ``step_s`` from start to end, the device's work included; validation is in neither. Counts go on where a resumed
    run left them. All figures are of one process; multiply clips and FLOPs by ``world_size`` for the run's.

    Args:
        peak_tflops_per_s: The device's peak at the precision in use, in TFLOP/s, above 0; given, utilisation is
            reported.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, *, peak_tflops_per_s: float | None = None) -> None:
        check_number("peak_tflops_per_s", peak_tflops_per_s, above=0, limit=1e9, optional=True)
        self.peak_tflops_per_s = peak_tflops_per_s
        self.epochs: list[dict[str, Any]] = []
        self._mark = time.perf_counter()
        self._data_s = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a module whose FLOPs are not known.

        Raises:
            ValueError: If so.
        """
        if not isinstance(pl_module, TrainedModule):
            raise ValueError(f"ComputeAccounting needs a TrainedModule, got {type(pl_module).__name__}")

    def state_dict(self) -> dict[str, Any]:
        """Counts so far, for a checkpoint."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint.

        Raises:
            ValueError: If they are no counts.
        """
        epochs = state_dict.get("epochs")
        if not isinstance(epochs, list) or not all(map(_is_entry, epochs)):
            raise ValueError(
                "the checkpoint's counts of ComputeAccounting must be numbers of at least 0 for each epoch"
            )
        self.epochs = epochs

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, also of an epoch that is gone on with in its middle."""
        self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._mark = time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Data has come, the step begins."""
        now = clock_s(pl_module.device)
        self._data_s, self._mark = now - self._mark, now

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the step to its epoch."""
        now = clock_s(pl_module.device)
        step_s, self._mark = now - self._mark, now
        clips = len(batch.index)
        assert isinstance(pl_module, TrainedModule)
        forward = pl_module.forward_flops(
            None if batch.audio is None else (batch.audio.shape[2], batch.audio.shape[3]),
            None if batch.video is None else (batch.video.shape[2], batch.video.shape[3], batch.video.shape[4]),
        )
        by_part = {name: TRAINING_FACTOR * clips * flops for name, flops in forward.items()}
        flops = sum(by_part.values())
        entry = self._entry(trainer.current_epoch)
        entry["steps"] += 1
        entry["clips"] += clips
        entry["data_s"] += self._data_s
        entry["step_s"] += step_s
        for name, value in by_part.items():
            entry["flops"][name] = entry["flops"].get(name, 0) + value
        total_s = self._data_s + step_s
        logged = {
            keys.CLIPS_PER_S: clips / total_s,
            keys.TFLOPS_PER_S: flops / step_s / 1e12,
            keys.DATA_S: self._data_s,
            keys.STEP_S: step_s,
            keys.PFLOPS_TOTAL: sum(sum(e["flops"].values()) for e in self.epochs) / 1e15,
            keys.PEAK_MEMORY_GIB: peak_memory_bytes(pl_module.device) / 2**30,
        }
        if self.peak_tflops_per_s:
            logged[keys.MFU] = flops / step_s / 1e12 / self.peak_tflops_per_s
        pl_module.log_dict(logged, batch_size=clips)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock again."""
        self._mark = time.perf_counter()

    def _entry(self, epoch: int) -> dict[str, Any]:
        if not self.epochs or self.epochs[-1]["epoch"] != epoch:
            self.epochs.append({"epoch": epoch, "steps": 0, "clips": 0, "data_s": 0.0, "step_s": 0.0, "flops": {}})
        return self.epochs[-1]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``compute.json``."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # log_dir is a broadcast: all ranks must ask
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TrainedModule)
        pl_module.require_run_folder()
        folder.mkdir(parents=True, exist_ok=True)
        summary = self.summary(trainer.world_size, pl_module.device)
        temporary = folder / "compute.json.tmp"
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
        temporary.replace(folder / "compute.json")

    def summary(self, world_size: int, device: torch.device) -> dict[str, Any]:
        """Totals of the run so far, and the entries of its epochs."""
        clips = sum(e["clips"] for e in self.epochs)
        data_s, step_s = sum(e["data_s"] for e in self.epochs), sum(e["step_s"] for e in self.epochs)
        return {
            "clips": clips,
            "steps": sum(e["steps"] for e in self.epochs),
            "training_flops": sum(sum(e["flops"].values()) for e in self.epochs),
            "data_s": data_s,
            "step_s": step_s,
            "clips_per_s": clips / (data_s + step_s) if clips else 0.0,
            "peak_memory_bytes": peak_memory_bytes(device),
            "world_size": world_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "epochs": self.epochs,
        }


def _is_entry(entry: Any) -> bool:
    """Whether something is what is counted of an epoch."""
    if not isinstance(entry, dict) or not isinstance(flops := entry.get("flops"), dict):
        return False
    counts = [entry.get(name) for name in ("epoch", "steps", "clips")] + list(flops.values())
    times_s = [entry.get("data_s"), entry.get("step_s")]
    return all(type(count) is int and count >= 0 for count in counts) and all(
        isinstance(time_s, float) and 0 <= time_s < float("inf") for time_s in times_s
    )


def clock_s(device: torch.device) -> float:
    """Seconds on a clock, after all that the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held at once: tensors on a GPU, or the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
