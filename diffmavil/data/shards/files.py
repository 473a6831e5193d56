"""Reading runs of bytes of shards."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path


class ShardFiles(ABC):
    """Random access to the files of a folder."""

    @abstractmethod
    def read(self, name: str, offset: int, size: int) -> bytearray:
        """Read bytes of a file; fewer where it ends.

        Raises:
            OSError: If it cannot be read.
        """


class LocalFiles(ShardFiles):
    """Files of a folder of this machine.

    Files stay open, the latest of them. Processes that are forked off may go on using it: reading at an offset
    moves nothing that they share.

    Args:
        folder: The folder.
        most_open: How many files stay open.
    """

    def __init__(self, folder: Path, most_open: int = 64) -> None:
        self._folder, self._most_open = folder, most_open
        self._open: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_open": OrderedDict()}  # open files are of one process

    def read(self, name: str, offset: int, size: int) -> bytearray:
        """Read bytes of a file; fewer where it ends.

        Raises:
            OSError: If it cannot be read, twice: handles of network file systems go stale.
        """
        try:
            return self._read(name, offset, size)
        except OSError:
            self._close(name)
            return self._read(name, offset, size)

    def _read(self, name: str, offset: int, size: int) -> bytearray:
        handle = self._handle(name)
        data = bytearray(os.pread(handle, size, offset))
        while 0 < len(data) < size and (more := os.pread(handle, size - len(data), offset + len(data))):
            data += more
        return data

    def _handle(self, name: str) -> int:
        if name not in self._open:
            while len(self._open) >= self._most_open:
                self._close(next(iter(self._open)))
            self._open[name] = os.open(self._folder / name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._open.move_to_end(name)
        return self._open[name]

    def _close(self, name: str) -> None:
        handle = self._open.pop(name, None)
        if handle is not None:
            os.close(handle)
