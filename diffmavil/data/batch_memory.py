"""The memory in which batches are put together; between processes it is shared, and used again and again.

The system fills pages of new memory with zeros when they are first written to, and with shared memory that takes longer
than all else that happens to a clip after it was decoded: 1.1 ms for the crops of 8 pictures, where writing them into
pages that are there takes 0.13 ms. So a data worker keeps its pieces of shared memory. The first byte of each says
whether a batch is in it. The process that receives the batch takes that mark away when nothing refers to it any more,
so that a batch may be kept for as long as one likes: a worker that finds no piece free makes a new one.
"""

from __future__ import annotations

import logging
import os
import weakref
from dataclasses import fields
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from diffmavil.types import RawBatch

_LOG: Final = logging.getLogger(__name__)

_HEAD: Final = 64
"""Bytes before the data; more than the mark, so that the data are aligned."""

_MOST_KEPT: Final = 4
"""Pieces of shared memory that a process keeps: its batches that wait, the one at work and one more."""

_MARGIN: Final = 1.1
"""How much room is made for parts to come, in mean sizes of those that are there."""

_LARGE: Final = ("waveform", "frames")
"""Fields of a batch that are in such memory."""


class Pool:
    """Pieces of memory of one process and one use.

    Args:
        shared: Whether the memory is shared with other processes, and used again when they are done with it.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._kept: list[Tensor] = []
        self._size = _HEAD

    def take(self, size: int) -> UInt8[Tensor, " n"]:
        """A piece, marked as in use, of at least as many bytes as were ever asked for.

        Args:
            size: How many are asked for now.
        """
        self._size = max(self._size, size)
        free = [k for k, piece in enumerate(self._kept) if not piece[0]]
        piece = next((self._kept[k] for k in free if len(self._kept[k]) >= self._size), None)
        if piece is None:
            piece = torch.empty(self._size, dtype=torch.uint8)
            if self._shared and _can_share(piece):
                if free:
                    self._kept[free[0]] = piece  # in the place of one that is too small
                elif len(self._kept) < _MOST_KEPT:
                    self._kept.append(piece)
        piece[0] = 1
        return piece


def _can_share(piece: Tensor) -> bool:
    """Bring a piece into shared memory, if there is room; without, its batch goes through a pipe."""
    try:
        piece.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError:
        for left in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):  # torch leaves the name of what it could not have
            left.unlink(missing_ok=True)
        _say_that_there_is_no_room()
        return False
    return True


@cache
def _say_that_there_is_no_room() -> None:
    _LOG.warning(
        "shared memory is full: batches come from this data worker through a pipe, which is slower; make /dev/shm "
        "larger (docker run --shm-size), or data.num_workers or data.batch_size smaller"
    )


class Growing:
    """Bytes that grow by parts of about the same size, in memory of a pool.

    Args:
        pool: The pool.
        parts: About how many parts will come.

    Attributes:
        end: Where the next part will be.
    """

    def __init__(self, pool: Pool, parts: int) -> None:
        self._pool, self._parts = pool, parts
        self._piece: Tensor | None = None
        self._count, self.end = 0, _HEAD

    def append(self, *shape: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """Room for another part, to be filled before the next one is asked for.

        Args:
            shape: Its shape.
            dtype: What it holds.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        begin, self.end = self.end, self.end + size
        self._count += 1
        if self._piece is None or self.end > len(self._piece):
            # the first few say little about all, and more may come than were expected
            left = max(min(self._parts - self._count, 3 * self._count), self._count // 8)
            small, mean = self._piece, (self.end - _HEAD) / self._count
            self._piece = self._pool.take(self.end + int(_MARGIN * mean * left))
            if small is not None:
                self._piece[_HEAD:begin] = small[_HEAD:begin]
                small[0] = 0
        return self._piece.numpy()[begin : self.end].view(dtype).reshape(shape)

    def bytes(self) -> UInt8[Tensor, " n"]:
        """All parts, end to end."""
        return torch.empty(0, dtype=torch.uint8) if self._piece is None else self._piece[_HEAD : self.end]


class BatchMemory:
    """Where the sound and the pictures of a batch are written, clip after clip.

    Args:
        waveform: Memory for sound.
        frames: Memory for pictures.
        shared: Whether other processes can see it.
    """

    def __init__(self, waveform: Growing, frames: Growing, *, shared: bool) -> None:
        self.waveform, self.frames, self.shared = waveform, frames, shared

    @property
    def ends(self) -> tuple[int, int]:
        """How far they are filled, for :meth:`cut`."""
        return self.waveform.end, self.frames.end

    def cut(self, ends: tuple[int, int]) -> None:
        """Forget what was written since."""
        self.waveform.end, self.frames.end = ends


class Pools:
    """The memory of a process for its batches.

    Args:
        shared: Whether another process trains on them.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._waveform, self._frames = Pool(shared=shared), Pool(shared=shared)

    def begin(self, clips: int) -> BatchMemory:
        """Memory for a batch of about so many clips."""
        return BatchMemory(Growing(self._waveform, clips), Growing(self._frames, clips), shared=self._shared)


class Parcel:
    """A batch on its way to another process, where it arrives as a ``RawBatch``.

    Args:
        batch: The batch, in memory of a shared pool.
    """

    def __init__(self, batch: RawBatch) -> None:
        self._batch = batch

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self._batch, field.name) for field in fields(RawBatch)}
        for name, value in values.items():
            if not isinstance(value, Tensor):
                continue
            if name not in _LARGE or not value.is_shared():  # type: ignore[no-untyped-call]
                values[name] = value.numpy()  # a tensor would get shared memory of its own
        return _unpack, (values,)


def _unpack(values: dict[str, Any]) -> RawBatch:
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = _lent(value)
        elif isinstance(value, np.ndarray):
            values[name] = torch.from_numpy(value)
    return RawBatch(**values)


def _lent(tensor: Tensor) -> Tensor:
    """The same memory as a tensor whose end takes the mark from it."""
    mark = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage(), 0, (1,), (1,)).numpy()
    array = tensor.numpy()
    weakref.finalize(array, _release, mark, os.getpid()).atexit = False
    return torch.from_numpy(array)  # and all that is made of it keep the array


def _release(mark: npt.NDArray[np.uint8], owner: int) -> None:
    if os.getpid() == owner:  # a process that was forked off has the array too, and may drop it earlier
        mark[0] = 0
