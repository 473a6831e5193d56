"""Part ``recipes``: the training step of the recipes, as it is and compiled, at the largest batch that fits."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any, Final

import torch

from diffmavil.commands.bench.gpu.job import Job
from diffmavil.commands.bench.recipe import Recipe, load_recipe
from diffmavil.commands.bench.step import TrainingStep, first_clips, noise_clips, seconds_per_clip, spread
from diffmavil.commands.bench.training import figures
from diffmavil.types import RawBatch

POINTS: Final = 2
"""Epochs of a recipe that are timed: the first and the last, between which it goes in straight lines."""

_FEW: Final = (16, 48)
"""Two batches whose peaks tell what a clip adds."""

_FILL: Final = 0.92
"""Share of the free memory that a batch may take: what it needs is extrapolated."""


def measure(job: Job) -> None:
    """Time each recipe, first all as they are, then compiled; each row is handed over as soon as it is there."""
    settings = job.settings
    rows: list[dict[str, Any]] = []
    baseline: dict[bool, list[float]] = {}
    flops = 0.0
    for compiled in (False, True):
        for name in settings.recipes:
            recipe = load(name, job)
            flops = flops or recipe.flops
            row, seconds = _timed(recipe, job, compiled=compiled)
            row |= figures(recipe, seconds, baseline.setdefault(compiled, seconds), flops)
            peak = job.peak_flops_per_s
            row["mfu"] = None if peak is None else row["gflops_per_s"] * 1e9 / peak
            rows.append(row)
            job.keep({"recipes": rows})
            del recipe
            _release()


def load(name: str, job: Job) -> Recipe:
    """A recipe, with its first and its last epoch."""
    return load_recipe(name, size=job.settings.size, num_frames=job.settings.num_frames, points=POINTS)


def with_batch(recipe: Recipe, clips: int) -> Recipe:
    """A recipe with so many clips in a batch of its last epoch, those of other epochs in proportion."""
    scale = clips / recipe.points[-1].clips
    points = [replace(point, clips=max(2, round(point.clips * scale))) for point in recipe.points]
    return replace(recipe, points=points)


def _timed(recipe: Recipe, job: Job, *, compiled: bool) -> tuple[dict[str, Any], list[float]]:
    """A recipe's batch and memory, and its seconds a clip in each round."""
    settings, device = job.settings, job.device
    step = TrainingStep(recipe, device=device, precision=settings.precision)
    if compiled:  # a rehearsal goes without the C++ compiler, which takes minutes
        step.compile("inductor" if device.type == "cuda" else "eager")
    clips = settings.batch_size or _largest(step, recipe, settings.most)
    while True:
        recipe = with_batch(recipe, clips)
        most = max(point.clips for point in recipe.points)
        raw = noise_clips(recipe.data, most)
        try:
            peak = _warm_up(step, recipe, raw)
            break
        except torch.OutOfMemoryError:
            if clips <= 2 or settings.batch_size is not None:
                raise
        # here, not in the handler: the error holds on to what filled the memory
        clips = max(2, clips * 9 // 10)
        step.optimizer.zero_grad()
        _release()
    rounds = []
    for _ in range(settings.rounds):
        seconds = []
        for point in recipe.points:
            step.set_ratios(point)
            seconds.append(step.seconds(first_clips(raw, point.clips)))
        rounds.append(seconds)
    row = {
        "compiled": compiled,
        "clips": recipe.points[-1].clips,
        "peak_memory_bytes": peak,
        "points": [
            vars(point) | {"seconds": spread([seconds[k] for seconds in rounds])}
            for k, point in enumerate(recipe.points)
        ],
    }
    return row, [seconds_per_clip(recipe.points, seconds) for seconds in rounds]


def _warm_up(step: TrainingStep, recipe: Recipe, raw: RawBatch) -> int | None:
    """Run a step at each point; give the most that was held on a GPU, weights and optimiser included."""
    cuda = step.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(step.device)
    for point in recipe.points:
        step.set_ratios(point)
        step.seconds(first_clips(raw, point.clips))
    return torch.cuda.max_memory_allocated(step.device) if cuda else None


def _largest(step: TrainingStep, recipe: Recipe, most: int) -> int:
    """Clips of a batch that fill a GPU, by what a clip adds to the peak in the last epoch; the recipe's on a CPU."""
    last = recipe.points[-1]
    if step.device.type != "cuda":
        return last.clips
    step.set_ratios(last)
    peaks = []
    for clips in (_FEW[0], *_FEW):  # at first also what stays: the optimiser's states
        raw = noise_clips(recipe.data, clips)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(step.device)
        step.seconds(raw)
        peaks.append(torch.cuda.max_memory_allocated(step.device))
    torch.cuda.empty_cache()
    one = max(1, (peaks[2] - peaks[1]) / (_FEW[1] - _FEW[0]))
    free, _ = torch.cuda.mem_get_info(step.device)
    available = _FILL * (free + torch.cuda.memory_reserved(step.device)) - (peaks[1] - one * _FEW[0])
    return max(2, min(most, int(available / one) // 8 * 8))


def _release() -> None:
    """Give back memory that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
