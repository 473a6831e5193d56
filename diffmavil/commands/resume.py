"""Continuing a run: what ``--ckpt_path last`` means, whatever the logger, and in which folder it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger

from diffmavil.models.checkpoints import CheckpointError
from diffmavil.run_folder import CHECKPOINTS, LOGS, newest_checkpoint, newest_run, run_of, runs_below

_BY_VERSION: Final = ("TensorBoardLogger", "CSVLogger")
"""Loggers that number their runs: ``save_dir/name/version_N``; others name them as they like."""


def last_checkpoint(trainer: Namespace) -> Path | None:
    """The last checkpoint of the newest run that the trainer of a config has written; ``None`` without any.

    It looks into the folders of explicit ModelCheckpoints, then below ``default_root_dir`` and where the loggers write.

    Args:
        trainer: The config's ``trainer``.

    Raises:
        CheckpointError: If ``default_root_dir`` is no folder of this machine.
    """
    root = root_of(trainer)
    for named in _folders_of_checkpoints(trainer):
        if checkpoint := newest_checkpoint(named):
            return checkpoint
    runs = runs_below(root)
    for name, args in _loggers(trainer):
        folder = Path(args.get("save_dir") or root).absolute()
        if name not in _BY_VERSION:
            runs += [path.parent for path in folder.glob(f"*/*/{CHECKPOINTS}") if newest_checkpoint(path)]
        elif (version := args.get("version")) is not None:
            run = folder / (args.get("name") or LOGS) / (version if isinstance(version, str) else f"version_{version}")
            return newest_checkpoint(run / CHECKPOINTS)
        elif folder != root:
            runs += runs_below(folder)
    newest = newest_run(runs)
    return None if newest is None else newest_checkpoint(newest / CHECKPOINTS)


def root_of(trainer: Namespace) -> Path:
    """Where the trainer of a config writes to, absolute.

    Raises:
        CheckpointError: If that is no folder of this machine.
    """
    root = trainer["default_root_dir"] or "."
    if "://" in str(root):
        raise CheckpointError(f"ckpt_path must be the checkpoint's own path where runs lie elsewhere, in {root}")
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
