"""Loaders of clips: one that tells of a machine without room for data workers, and one that a checkpoint keeps."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from torch.utils.data import DataLoader

from diffmavil.data.dataset import Item
from diffmavil.data.sampler import EpochSampler
from diffmavil.types import RawBatch

_SHARED: Final = Path("/dev/shm")
"""Where locks between processes lie, each in a page of its own."""


class ClipLoader(DataLoader[Item]):
    """Loader whose data workers start, or do not in a line."""

    def __iter__(self) -> Any:
        if self.num_workers > 0 and _SHARED.is_dir():
            room = os.statvfs(_SHARED)
            locks = 3 * (self.num_workers + 2) + 6  # of a queue to each worker and two back, and of an event
            if room.f_bavail < locks:
                what = f"too little for the locks of {self.num_workers} data workers: make it larger"
                raise OSError(
                    errno.ENOSPC, f"{what} (docker run --shm-size), or set data.num_workers to 0", str(_SHARED)
                )
        return super().__iter__()


class ResumableLoader(ClipLoader):
    """Loader over an :class:`EpochSampler` that goes on in the middle of an epoch.

    Lightning asks for ``state_dict`` when it writes a checkpoint and gives it back when a run is taken up. What counts
    is the batches that were handed out, not those that data workers have read ahead.
    """

    batch_sampler: EpochSampler

    def __iter__(self) -> Iterator[RawBatch]:  # type: ignore[override]  # DataLoader promises a class of its own
        sampler = self.batch_sampler
        sampler.given = 0
        for batch in super().__iter__():
            sampler.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands."""
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self.batch_sampler.load_state_dict(state_dict)
