"""Continuing a run: what ``--ckpt_path last`` means, whatever the logger, and in which folder it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger

from diffmavil.models.checkpoints import CheckpointError
from diffmavil.run_folder import CHECKPOINTS, LOGS, newest_checkpoint, newest_run, run_of, runs_below, written_at

_BY_VERSION: Final = ("TensorBoardLogger", "CSVLogger")
"""Loggers that number their runs: ``save_dir/name/version_N``; others name them as they like."""


def last_checkpoint(trainer: Namespace) -> Path | None:
    """The last checkpoint of the newest run that the trainer of a config has written; ``None`` without any.

    It looks where the config's first logger has its runs written, by default and without a logger below
    ``default_root_dir``, and into the folders that ModelCheckpoints name.

    Args:
        trainer: The config's ``trainer``.

    Raises:
        CheckpointError: If ``default_root_dir`` is no folder of this machine.
    """
    root = root_of(trainer)
    run = newest_run(_runs(trainer, root))
    folders = [*_folders_of_checkpoints(trainer), *([] if run is None else [run / CHECKPOINTS])]
    found = [checkpoint for folder in folders if (checkpoint := newest_checkpoint(folder)) is not None]
    return max(found, key=written_at, default=None)


def written_elsewhere(trainer: Namespace) -> list[Path]:
    """Folders outside ``default_root_dir`` in which a config has runs or checkpoints written."""
    root = root_of(trainer)
    named = [Path(args["save_dir"]).absolute() for _, args in _loggers(trainer) if args.get("save_dir")]
    return [folder for folder in [*named, *_folders_of_checkpoints(trainer)] if root not in (folder, *folder.parents)]


def _runs(trainer: Namespace, root: Path) -> list[Path]:
    """Runs with checkpoints, where the first logger has them written."""
    logger = next(_loggers(trainer), None)
    if logger is None:
        return runs_below(root)
    kind, args = logger
    folder = Path(args.get("save_dir") or root).absolute()
    if kind not in _BY_VERSION:
        return runs_below(folder, ("*/*",))
    folder /= LOGS if args.get("name") is None else args["name"]
    version = args.get("version")
    name = "*" if version is None else version if isinstance(version, str) else f"version_{version}"
    return runs_below(folder, (name,))


def root_of(trainer: Namespace) -> Path:
    """Where the trainer of a config writes to, absolute.

    Raises:
        CheckpointError: If that is no folder of this machine.
    """
    root = trainer["default_root_dir"] or "."
    if "://" in str(root):
        rule = "must be a folder of this machine to find the last checkpoint in it"
        raise CheckpointError(f"trainer.default_root_dir {rule}, got {root}")
    return Path(root).absolute()


def logger_of(trainer: Namespace, checkpoint: Path, step: int | None) -> TensorBoardLogger | None:
    """Logger that continues the run of a checkpoint in its own folder.

    What the run had logged after the checkpoint is dropped: those steps are going to be done again.

    Args:
        trainer: The config's ``trainer``.
        checkpoint: A file, or a folder of shards.
        step: The step that it stands at; ``None`` where that is not known.

    Returns:
        ``None`` where the config's logger cannot go on in a folder: of those that number their runs, TensorBoard's can.
    """
    names = [name for name, _ in _loggers(trainer)]
    run = run_of(checkpoint)
    if trainer["logger"] is False or names[:1] not in ([], ["TensorBoardLogger"]) or checkpoint.parent == run:
        return None
    args = next((args for _, args in _loggers(trainer)), {})
    number = run.name.removeprefix("version_")
    version = int(number) if number.isdigit() else run.name
    place = {"save_dir": run.parent.parent, "name": run.parent.name, "version": version, "purge_step": step}
    return TensorBoardLogger(**{**args, **place})


def _loggers(trainer: Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class name and arguments of the loggers that a config names."""
    loggers = trainer["logger"]
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if logger and logger is not True:
            given = logger.get("init_args")
            yield logger["class_path"].rpartition(".")[2], {} if given is None else given.as_dict()


def _folders_of_checkpoints(trainer: Namespace) -> Iterator[Path]:
    """Folders that a config names for checkpoints."""
    callbacks = trainer["callbacks"] or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if folder := (callback.get("init_args") or {}).get("dirpath"):
            yield Path(folder).absolute()
