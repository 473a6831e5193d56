"""What a run cost and how well it did, from the files in its folder: what runs are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffmavil.commands.compute_file import read_compute
from diffmavil.metrics_file import METRICS, read_metrics
from diffmavil.run_folder import COMPUTE, find_run


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """Figures of a run.

    Args:
        folder: The run's folder.
        clips: Clips that were trained on, those of all processes together.
        flops: Training FLOPs of a clip, by part.
        seconds: Wall clock of a clip on one process, waiting for data included.
        peak_memory_bytes: Most memory held at once, by one process.
        world_size: Processes.
        metrics: Losses and scores by name and by what was measured; ``None`` where one is not finite.
    """

    folder: Path
    clips: int
    flops: dict[str, float]
    seconds: float
    peak_memory_bytes: float
    world_size: int
    metrics: dict[str, float | None]


def figures_of(folder: Path) -> RunFigures:
    """Figures of a run, from its ``compute.json`` and ``metrics.json``.

    Args:
        folder: Folder of the run, or the one that it was told to write to (the newest run in it).

    Raises:
        RunFolderError: If there is no run.
        ValueError: If it has no ``compute.json``, a file of it is damaged, or no step was counted.
    """
    run = find_run(folder)
    if not (run / COMPUTE).is_file():
        rule = f"must hold {COMPUTE} (the callback ComputeAccounting writes it)"
        raise ValueError(f"a run {rule}, found none in {folder}")
    compute = read_compute(run / COMPUTE)
    clips = compute["clips"]
    if not clips:
        raise ValueError(f"a run must have trained on a clip to be compared, got none in {run / COMPUTE}")
    flops: dict[str, float] = {}
    for epoch in compute["epochs"]:
        for part, value in epoch["flops"].items():
            flops[part] = flops.get(part, 0.0) + value / clips
    metrics: dict[str, float | None] = {}
    for entry in read_metrics(run / METRICS):
        for name, value in entry["metrics"].items():
            key = f"{name}{_of(entry)}"
            # several of one name are told apart by what they differ in
            metrics[f"{name}{_of(entry, 'of', 'checkpoint', 'settings')}" if key in metrics else key] = value
    world_size = int(compute["world_size"])
    return RunFigures(
        folder=run,
        clips=clips * world_size,
        flops=flops,
        seconds=(compute["data_s"] + compute["step_s"]) / clips,
        peak_memory_bytes=float(compute["peak_memory_bytes"]),
        world_size=world_size,
        metrics=metrics,
    )


def _of(entry: dict[str, Any], *more: str) -> str:
    """What a score is of; nothing for a training."""
    about = [str(entry[key]) for key in ("module", "modalities", "data", *more) if entry.get(key)]
    return "" if entry["command"] == "fit" else f" ({', '.join(about)})"
