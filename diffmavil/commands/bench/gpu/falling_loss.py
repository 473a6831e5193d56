"""Part ``training``: a short training whose loss must fall."""

from __future__ import annotations

import time
from statistics import mean
from typing import Final

from diffmavil import keys
from diffmavil.commands.bench.gpu.clips import logged as logged_by
from diffmavil.commands.bench.gpu.clips import make_shards, pretrain
from diffmavil.commands.bench.gpu.job import Job

MARGIN: Final = 0.05
"""By this share of the loss of the first tenth, that of the last tenth must be lower."""

_START_S: Final = 20.0
"""Seconds that a training needs before and after its steps, at most."""

_MOST_EPOCHS: Final = 100_000


def measure(job: Job) -> None:
    """Train for a while, at a constant ratio and step size, and compare the losses of the first and the last tenth.

    Raises:
        AssertionError: If the loss did not fall by the margin.
    """
    settings = job.settings
    make_shards(job)
    seconds = min(settings.seconds, max(1.0, job.left_s - _START_S))
    trainer = {
        "max_epochs": _MOST_EPOCHS,
        "max_time": {"seconds": round(seconds)},
        "min_steps": settings.steps,
        "limit_val_batches": 1,
    }
    start = time.perf_counter()
    run = pretrain(job, "training", size=settings.trained_size, model={"warmup": 0.0}, trainer=trainer)
    took_s = time.perf_counter() - start
    names = (keys.LOSS, keys.LOSS_RECONSTRUCTION_AUDIO, keys.LOSS_RECONSTRUCTION_VIDEO)
    losses = dict(zip(names, logged_by(run, *(f"train/{name}" for name in names)), strict=True))
    (held_out,) = logged_by(run, f"val/{keys.LOSS}")
    steps = len(losses[keys.LOSS])
    tenth = max(1, steps // 10)
    tenths = {name: [mean(values[:tenth]), mean(values[-tenth:])] for name, values in losses.items()}
    first, last = tenths[keys.LOSS]
    job.keep(
        {
            "size": settings.trained_size,
            "steps": steps,
            "batch_size": run.datamodule.batch_size,
            "seconds": took_s,
            "clips_per_s": steps * run.datamodule.batch_size / took_s,
            "tenths": tenths,
            "held_out": [held_out[0], held_out[-1]] if held_out else None,
            "fell": 1 - last / first,
            "margin": MARGIN,
        }
    )
    if not last < (1 - MARGIN) * first:
        raise AssertionError(f"the loss fell by {1 - last / first:.1%} over {steps} steps, and must by {MARGIN:.0%}")
