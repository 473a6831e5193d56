"""Part ``profile``: where the time of the slowest recipe's step goes, and how often it waits for the device."""

from __future__ import annotations

import re
from typing import Any, Final

import torch

from diffmavil.commands.bench.device import longest, recorded, runs_on, self_seconds
from diffmavil.commands.bench.gpu.job import Job
from diffmavil.commands.bench.gpu.recipes import load, with_batch
from diffmavil.commands.bench.step import TrainingStep, noise_clips

TOP: Final = 15
_PRODUCT: Final = re.compile(r"aten::(_?(add|b|baddb|scaled_)?mm(_.*)?|addmv|mkldnn_linear.*|.*attention.*)$")
_WAIT: Final = re.compile(r"cu(da)?(Stream|Device|Event|Ctx)Synchronize.*|cudaMemcpy(_v2)?$|hipDeviceSynchronize")
"""Calls that let the CPU wait for the device."""

_READ: Final = "aten::_local_scalar_dense"
"""Reads a number of a tensor: such a wait, on a GPU."""

_STEPS: Final = (1, 3)


def measure(job: Job) -> None:
    """Profile a step of the slowest recipe at the batch that was found for it; of the first one where none was."""
    settings, device = job.settings, job.device
    rows = [row for row in job.found.get("recipes", {}).get("recipes", []) if not row["compiled"]]
    slowest = max(rows, key=lambda row: row["seconds_per_clip"]["median"], default=None)
    name = settings.recipes[0] if slowest is None else slowest["recipe"]
    recipe = load(name, job)
    clips = settings.batch_size or recipe.points[-1].clips if slowest is None else slowest["clips"]
    recipe = with_batch(recipe, clips)
    last = recipe.points[-1]
    step = TrainingStep(recipe, device=device, precision=settings.precision)
    step.set_ratios(last)
    raw = noise_clips(recipe.data, last.clips)
    step.seconds(raw)  # warm up
    seconds = min(step.seconds(raw) for _ in range(settings.rounds))
    job.keep({"recipe": name, "clips": last.clips, "step_s": seconds})
    events = recorded(lambda: step.run(raw), device)
    job.keep({"kernels": longest(events, device, TOP)} | _shares(events, device, seconds))
    job.keep({"synchronisations": count_waits(step.run, noise_clips(recipe.data, min(8, last.clips)), device)})


def is_product(name: str) -> bool:
    """Whether an operation is a matrix product; attention's kernels are counted as such."""
    return _PRODUCT.match(name) is not None


def _shares(events: list[Any], device: torch.device, step_s: float) -> dict[str, float]:
    """Shares of a step: of its kernels' time that is no matrix product, and of it all in which the device worked."""
    started = [event for event in events if event.device_type.name == "CPU"]
    products = sum(self_seconds(event, device) for event in started if is_product(event.key))
    total = sum(self_seconds(event, device) for event in events if runs_on(event, device))
    return {"outside_products": 1 - products / total, "kernels_s": total, "device_busy": min(1.0, total / step_s)}


def count_waits(run: Any, raw: Any, device: torch.device) -> dict[str, float]:
    """How often each call that waits for the device is made in a step.

    The difference of several steps and one: what the profiler itself does at its end is in both.

    Args:
        run: Runs a step on a batch.
        raw: The batch.
        device: Where it runs.
    """
    counts = []
    for steps in _STEPS:
        events = recorded(lambda steps=steps: [run(raw) for _ in range(steps)], device)  # type: ignore[misc]
        named = {event.key: event.count for event in events if event.key == _READ or _WAIT.match(event.key)}
        counts.append(named)
    one, several = counts
    per_step = {name: (count - one.get(name, 0)) / (_STEPS[1] - _STEPS[0]) for name, count in several.items()}
    return {name: count for name, count in sorted(per_step.items()) if count}
