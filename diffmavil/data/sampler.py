"""Which clips are read when: a pure function of seed, epoch, rank, number of ranks and batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from diffmavil.data.dataset import Request


class EpochSampler(Sampler[list[Request]]):
    """Batches of one epoch on one rank.

    In training the clips are shuffled anew in each epoch, batch k of all ranks together is piece k of that
    order, and what does not fill a batch of all ranks is dropped. Otherwise all clips are read in order, rank
    r taking every ``world``-th from r on; all have equally many batches, the last perhaps short or empty.

    Args:
        indices: Clips to read.
        batch_size: Clips of a batch on one rank.
        shuffle: Whether this is for training.
        seed: Seed of the order.
        epoch: The epoch.
        rank: This process.
        world: Number of processes.

    Raises:
        ValueError: If a number is out of its range, or if training has too few clips for a batch.
    """

    def __init__(
        self,
        *,
        indices: Sequence[int],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in [0, {world}), got {rank}")
        if shuffle and len(indices) < batch_size * world:
            clips = f"{len(indices)} training clips"
            raise ValueError(f"batch_size must be at most {len(indices) // world} with {clips}, got {batch_size}")
        self.indices = indices
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world = world

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning calls ``set_epoch`` on a batch sampler's ``sampler`` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        of_all = self.batch_size * self.world
        return len(self.indices) // of_all if self.shuffle else -(-len(self.indices) // of_all)

    def __iter__(self) -> Iterator[list[Request]]:
        order = list(self.indices)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            order = [order[k] for k in torch.randperm(len(order), generator=generator).tolist()]
        mine = order[self.rank :: self.world]
        for k in range(len(self)):
            yield [(self.epoch, index) for index in mine[k * self.batch_size : (k + 1) * self.batch_size]]


def _mix(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63
