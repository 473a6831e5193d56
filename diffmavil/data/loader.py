"""A loader of training clips whose place in an epoch a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from diffmavil.data.dataset import Item
from diffmavil.data.sampler import EpochSampler
from diffmavil.types import RawBatch


class ResumableLoader(DataLoader[Item]):
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
