"""The callbacks that each command of the trainer has beside those of its config."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, ModelSummary, ProgressBar

from diffmavil.callbacks import MetricsWriter
from diffmavil.data import ClipDataModule
from diffmavil.lightning_glue.log_interval import LogInterval
from diffmavil.lightning_glue.model_summary import PartsSummary
from diffmavil.lightning_glue.progress import progress_bar
from diffmavil.run_folder import CONFIG, run_of


def own_callbacks(
    command: str, config: Namespace, given: Sequence[Callback], checkpoint: Path | None, step: int | None = None
) -> Iterator[Callback]:
    """Progress, a summary, how often to log, figures in a file; each unless the config says otherwise.

    Args:
        command: fit, validate, test or predict.
        config: Its config.
        given: The callbacks of the config.
        checkpoint: The checkpoint that the command works with, if any.
        step: The step that it stands at, where that is known.
    """
    trainer = config.trainer
    if trainer.barebones:
        return
    if trainer.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in given):
        yield progress_bar()
    if trainer.enable_model_summary is not False and not any(isinstance(c, ModelSummary) for c in given):
        yield PartsSummary()
    if command == "fit" and trainer.log_every_n_steps is None:
        # of the interval that is taken until the training starts
        warnings.filterwarnings("ignore", r"The number of training batches .* is smaller than the logging interval")
        yield LogInterval()
    if command != "predict" and not trainer.fast_dev_run:
        of_model = config.model.get("init_args", {}).get("checkpoint")
        measured = checkpoint or (None if of_model is None else Path(of_model))
        run = None if command == "fit" or measured is None else run_of(measured)
        is_run = run is not None and (run / CONFIG).is_file()
        about = _about(command, config, measured)
        if command != "fit" and step is not None:
            about["of"] = f"step {step}"
        yield MetricsWriter(about=about, run=run if is_run else None)


def _about(command: str, config: Namespace, checkpoint: Path | None) -> dict[str, str]:
    """What the figures of a command are of."""
    about = {"command": command, "module": config.model.class_path.rpartition(".")[2]}
    if command == "fit":
        return about
    source, given = config.data.source, config.model.get("init_args", {})
    places = source.get("init_args") or {}
    place = next((str(value) for value in places.values() if value is not None), "")
    settings = {f"source.{name}": value for name, value in places.items() if value is not None}
    defaults = inspect.signature(ClipDataModule).parameters
    settings |= {
        name: value
        for name, value in config.data.items()
        if name not in _NOT_OF_SCORES and "." not in name and value != defaults[name].default
    }
    settings |= {name: value for name, value in given.items() if "." not in name and name not in _NOT_OF_SCORES}
    return about | {
        "modalities": given.get("modalities") or config.data.modalities,
        "data": f"{source.class_path.rpartition('.')[2]} {place}".strip(),
        "checkpoint": "none" if checkpoint is None else checkpoint.name,
        "settings": _text(settings),
    }


_NOT_OF_SCORES: Final = frozenset(
    "source batch_size eval_batch_size num_workers timeout_s on_error checkpoint backbone model compile halved".split()
)
"""Keys that change no score, or that the entry names by themselves."""


def _text(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(settings.items()) if value is not None)
