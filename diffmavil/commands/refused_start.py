"""A start that is refused leaves no folder of a run behind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import lightning as L

_OWN: Final = ("config.yaml", "hparams.yaml", "metrics.csv")
"""What Lightning and its loggers write into a run's folder before anything is trained, beside the curves."""


class _FirstStep(L.Callback):
    """Knows whether a training step was done."""

    done = False

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """It was."""
        self.done = True


@contextmanager
def removed_if_refused(trainer: L.Trainer) -> Iterator[None]:
    """Take a run's folder away again where the run ends in an error before its first training step.

    Only what this process wrote there goes, and only where the folder was not there before: not a link, nothing in a
    folder that holds anything else.

    Args:
        trainer: Before it runs.
    """
    first = _FirstStep()
    trainer.callbacks.insert(0, first)  # type: ignore[attr-defined]  # before another can fail there
    new: list[Path] = []
    if trainer.is_global_zero:
        places = [getattr(logger, "log_dir", None) for logger in trainer.loggers]
        new = [Path(place).absolute() for place in places if place is not None]
        if not new:  # then Lightning writes the config here
            new = [Path(trainer.default_root_dir).absolute()]
        new = [folder for folder in new if not os.path.lexists(folder)]
    above = {folder: [up for up in folder.parents if not os.path.lexists(up)] for folder in new}
    try:
        yield
    except BaseException:
        if not first.done:
            for folder in new:
                _remove(folder, above[folder])
        raise


def _remove(folder: Path, above: list[Path]) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        there = list(entries)
    if not all(_is_own(entry) for entry in there):
        return
    with suppress(OSError):  # what cannot be removed stays
        for entry in there:
            (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
        for empty in [folder, *above]:
            empty.rmdir()


def _is_own(entry: os.DirEntry[str]) -> bool:
    """Whether this process made it: a file that it writes, or the empty folder of the checkpoints."""
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return entry.name == "checkpoints" and not os.listdir(entry.path)
    curves = re.fullmatch(r"events\.out\.tfevents\.\d+\..*\.(\d+)\.\d+", entry.name)
    return entry.name in _OWN or (curves is not None and int(curves[1]) == os.getpid())
