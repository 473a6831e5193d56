"""Part ``path``: from synthetic clips over shards to training steps, and how long the device waits for data."""

from __future__ import annotations

import time

from diffmavil import keys
from diffmavil.commands.bench.gpu.clips import logged as logged_by
from diffmavil.commands.bench.gpu.clips import make_shards, pretrain
from diffmavil.commands.bench.gpu.job import Job


def measure(job: Job) -> None:
    """Make clips and shards, train on them for some steps, and note the share of time without data.

    The first tenth of the steps is left out: the data workers start then, and kernels are chosen.
    """
    settings = job.settings
    start = time.perf_counter()
    make_shards(job)
    job.keep({"made_clips": settings.clips, "made_s": time.perf_counter() - start})
    trainer = {"max_epochs": 1, "max_steps": settings.steps, "limit_val_batches": 0}
    start = time.perf_counter()
    run = pretrain(job, "path", size=settings.size, model={}, trainer=trainer)
    fit_s = time.perf_counter() - start
    data_s, step_s = logged_by(run, keys.DATA_S, keys.STEP_S)
    (peak_gib,) = logged_by(run, keys.PEAK_MEMORY_GIB)
    first = max(1, len(data_s) // 10)
    waited, worked = sum(data_s[first:]), sum(step_s[first:])
    clips = run.datamodule.batch_size * len(data_s[first:])
    job.keep(
        {
            "steps": len(data_s),
            "left_out": first,
            "batch_size": run.datamodule.batch_size,
            "workers": job.workers,
            "fit_s": fit_s,
            "first_step_s": data_s[0] + step_s[0],
            "data_s": waited,
            "step_s": worked,
            "data_share": waited / (waited + worked),
            "clips_per_s": clips / (waited + worked),
            "peak_memory_gib": max(peak_gib),
        }
    )
    if len(data_s) != settings.steps:
        raise AssertionError(f"{settings.steps} steps were to be taken, got {len(data_s)}")
