"""Reading runs of bytes of shards."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from diffmavil.data.regular import open_regular
from diffmavil.data.shards.layout import Extent


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard.

    Args:
        name: Name of its file.
        size: Its bytes, as the index says.
    """

    name: str
    size: int


class TimeLimit:
    """How long bytes may be waited for.

    Args:
        timeout_s: Seconds, from now on.

    Attributes:
        timeout_s: The same.

    Raises:
        ValueError: If ``timeout_s`` is not positive.
    """

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0.0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        self.timeout_s = timeout_s
        self._end_s = monotonic() + timeout_s

    def allows(self, pause_s: float) -> bool:
        """Whether some time is left after a pause."""
        return monotonic() + pause_s < self._end_s

    def left_s(self) -> float:
        """Seconds that are left, above 0.

        Raises:
            TimeoutError: If none are.
        """
        if not self.allows(0.0):
            raise TimeoutError
        return self._end_s - monotonic()


class ShardFiles(ABC):
    """Random access to shards."""

    @abstractmethod
    def read(self, shard: Shard, place: Extent, limit: TimeLimit) -> bytearray:
        """Read bytes of a shard; fewer where its file ends.

        Args:
            shard: The shard.
            place: Which bytes.
            limit: For waiting; a disk of this machine knows none.

        Raises:
            TimeoutError: If it takes too long.
            OSError: If it cannot be read.
        """

    def read_each(self, shard: Shard, places: Sequence[Extent], limit: TimeLimit) -> Iterator[bytearray | memoryview]:
        """Read several runs of bytes of a shard, each as it is taken; fewer where its file ends.

        Args:
            shard: The shard.
            places: Which bytes, in ascending order.
            limit: For waiting.

        Raises:
            TimeoutError: If it takes too long.
            OSError: If it cannot be read.
        """
        return (self.read(shard, place, limit) for place in places)


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

    def read(self, shard: Shard, place: Extent, limit: TimeLimit) -> bytearray:
        """Read bytes of a shard; fewer where its file ends.

        Raises:
            OSError: If it cannot be read, twice: handles of network file systems go stale.
        """
        try:
            return self._read(shard.name, place)
        except OSError:
            self._close(shard.name)
            return self._read(shard.name, place)

    def is_open(self, shard: Shard) -> bool:
        """Whether a shard is open."""
        return shard.name in self._open

    def _read(self, name: str, place: Extent) -> bytearray:
        handle = self._handle(name)
        # what the file has, whatever the index says
        size = min(place.size, max(0, os.fstat(handle).st_size - place.offset))
        data, count = bytearray(size), 0
        with memoryview(data) as room:
            while count < size and (more := os.preadv(handle, [room[count:]], place.offset + count)):
                count += more
        del data[count:]
        return data

    def _handle(self, name: str) -> int:
        if name not in self._open:
            while len(self._open) >= self._most_open:
                self._close(next(iter(self._open)))
            self._open[name] = open_regular(self._folder / name)
        self._open.move_to_end(name)
        return self._open[name]

    def _close(self, name: str) -> None:
        handle = self._open.pop(name, None)
        if handle is not None:
            os.close(handle)
