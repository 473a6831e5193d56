"""The folder that a run writes into, and whether it is still there."""

from __future__ import annotations

import os
import weakref
from pathlib import Path


class FolderGoneError(Exception):
    """The run's folder vanished while it ran."""


class FolderWatch:
    """A folder that must neither vanish nor be replaced by another one.

    Lightning would make it anew at the next checkpoint, without the curves and the config that were in it.

    Args:
        path: The folder. Where it does not exist yet, it counts from when it does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: tuple[int, int] | None = None
        self._names: set[str] = set()
        self.check()

    def check(self) -> None:
        """Look at it.

        Raises:
            FolderGoneError: If it is gone, or another is in its place.
        """
        try:
            status = self.path.stat()
            names = set(os.listdir(self.path))
        except FileNotFoundError:
            status, names = None, set()
        now = None if status is None else (status.st_dev, status.st_ino)
        if self._known is None:
            if now is not None:
                self._known, self._names = now, names
                # as long as it is open, no other folder gets its number
                weakref.finalize(self, os.close, os.open(self.path, os.O_RDONLY))
        # some file systems of networks give a folder another number now and then, but keep what is in it
        elif now != self._known and (now is None or not self._names or not self._names <= names):
            raise FolderGoneError(
                f"the run's folder {self.path} was removed or replaced while it ran; the run ends, and writes no more"
            )
