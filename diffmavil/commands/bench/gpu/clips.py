"""Synthetic clips in shards, and a pretraining on them, for the parts that train from clips."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

import yaml

from diffmavil.commands.bench.gpu.job import Job
from diffmavil.commands.configs import find_config
from diffmavil.commands.prepare import prepare
from diffmavil.commands.synth import synth
from diffmavil.commands.train import DiffmavilCLI, train
from diffmavil.data import ManifestSource
from diffmavil.data.shards.layout import Stored
from diffmavil.sizes import SizeName

_WINDOW: Final = {"clip_s": 10.24, "fps": 2.0, "image_size": 224}
"""What clips are made for, where a recipe does not say: the data module's defaults."""

VAL_FRACTION: Final = 0.1


def make_shards(job: Job) -> Path:
    """The folder of shards; clips and shards are made where no part before has made them."""
    clips, shards = job.folder / "clips", job.folder / "shards"
    manifest, done = clips / "manifest.csv", job.folder / "shards.done"
    if not done.exists():
        window = _WINDOW | {name: value for name, value in _recipe(job)["data"].items() if name in _WINDOW}
        if not manifest.exists():
            size_px = max(32, int(window["image_size"] * 8 / 7) // 2 * 2)  # room to crop: 256 for 224
            clip_s = max(1.0, window["clip_s"])
            synth(out=clips, clips=job.settings.clips, clip_s=clip_s, size_px=size_px, fps=8, workers=job.workers)
        prepare(
            source=ManifestSource(path=manifest, label_column="label"),
            out=shards,
            stored=Stored(fps=max(4.0, window["fps"])),
            workers=job.workers,
        )
        done.touch()
    return shards


def pretrain(job: Job, name: str, *, size: SizeName, model: dict[str, Any], trainer: dict[str, Any]) -> DiffmavilCLI:
    """Run ``diffmavil fit`` on the shards with the recipe, its callbacks left out, every step in ``metrics.csv``.

    Args:
        job: The part's work.
        name: Folder of the run in the work folder.
        size: Size of the model.
        model: Settings of the module that differ from the recipe's.
        trainer: Settings of the trainer.

    Returns:
        The command after it has run.
    """
    settings, folder = job.settings, job.folder / name
    config, shards = _recipe(job), make_shards(job)
    config["model"]["init_args"]["model"]["init_args"]["size"] = size
    config["model"]["init_args"].update(model)
    batch_size = settings.batch_size or config["data"]["batch_size"]
    config["data"].update(
        source={"class_path": "ShardSource", "init_args": {"root": str(shards)}},
        batch_size=batch_size,
        num_workers=job.workers,
        balanced=True,  # draws with replacement: an epoch has as many steps as are wanted
        clips_per_epoch=settings.steps * batch_size,
        val_fraction=VAL_FRACTION,
    )
    accounting: dict[str, Any] = {"class_path": "ComputeAccounting"}
    if job.peak_flops_per_s is not None:
        accounting["init_args"] = {"peak_tflops_per_s": job.peak_flops_per_s / 1e12}
    config["trainer"] = {
        "accelerator": settings.device,
        "devices": 1,
        "precision": settings.precision,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "default_root_dir": str(folder),
        "callbacks": [accounting],
        "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(folder)}},
        **trainer,
    }
    path = job.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return train(["fit", "--config", str(path)])


def logged(run: DiffmavilCLI, *names: str) -> list[list[float]]:
    """Values under each name in a run's ``metrics.csv``, in order of the steps."""
    with (Path(str(run.trainer.log_dir)) / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(row[name]) for row in rows if row.get(name)] for name in names]


def _recipe(job: Job) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(Path(find_config(job.settings.recipe)).read_text())
    return config
