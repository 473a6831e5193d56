"""Which clips an epoch reads and in which order: pure functions of seed and epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
"""Positions of clips in the list of all clips."""


class Order(ABC):
    """What an epoch reads.

    Args:
        indices: Clips to draw from.
        clips: Clips of an epoch; ``None``: as many as there are.
        seed: Seed of all draws.

    Raises:
        ValueError: If ``clips`` is out of its range.
    """

    def __init__(self, indices: Sequence[int] | Positions, *, clips: int | None = None, seed: int = 0) -> None:
        self.indices, self.seed = np.asarray(indices, np.int64), seed
        self.clips = len(indices) if clips is None else clips
        if clips is not None and (clips < 1 or (clips > len(indices) and not self.repeats)):
            raise ValueError(f"clips_per_epoch must be between 1 and the {len(indices)} training clips, got {clips}")

    @property
    def repeats(self) -> bool:
        """Whether an epoch may read a clip more than once."""
        return False

    def __call__(self, epoch: int) -> Positions:
        """Clips of an epoch, in order."""
        return self.indices[self._draw(np.random.default_rng((self.seed, 3, epoch)))]

    @abstractmethod
    def _draw(self, random: np.random.Generator) -> Positions:
        """Which of ``indices`` an epoch reads, in order."""


class AsListed(Order):
    """The clips as they come, for evaluation."""

    def _draw(self, random: np.random.Generator) -> Positions:
        return np.arange(self.clips)


class Shuffled(Order):
    """Every order of the clips is as likely as any other; each clip at most once an epoch."""

    def _draw(self, random: np.random.Generator) -> Positions:
        return random.permutation(len(self.indices))[: self.clips]


class ShuffledInBlocks(Order):
    """Shuffled so that clips which lie together are read at about the same time, for storage that is far away.

    The blocks are shuffled, and then the clips of each ``together`` of them. So a batch has clips of that many blocks,
    and a reader has to hold twice as many, where one such group ends and the next begins.

    Args:
        indices: Clips to draw from, those of a block next to each other.
        blocks: The block of each: its shard.
        together: Blocks whose clips are shuffled together.
        clips: Clips of an epoch; ``None``: as many as there are.
        seed: Seed of all draws.
    """

    def __init__(
        self, indices: Positions, *, blocks: Positions, together: int, clips: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(indices, clips=clips, seed=seed)
        if together < 1:
            raise ValueError(f"together must be at least 1, got {together}")
        self._begins, self._together = np.flatnonzero(np.diff(blocks)) + 1, together

    def _draw(self, random: np.random.Generator) -> Positions:
        pieces = np.split(np.arange(len(self.indices)), self._begins)
        turn = random.permutation(len(pieces))
        groups = [turn[k : k + self._together] for k in range(0, len(turn), self._together)]
        order = [random.permutation(np.concatenate([pieces[k] for k in group])) for group in groups]
        return np.concatenate(order)[: self.clips]


class Balanced(Order):
    """Draws in which a clip's chance is its weight, one by one and with replacement.

    Args:
        indices: Clips to draw from.
        weights: Weight of each; at least 0, and not all 0.
        clips: Clips of an epoch; ``None``: as many as there are.
        seed: Seed of all draws.

    Source: AST, arXiv:2104.01778, section 3.1: weighted by the inverse frequency of a clip's classes.
    """

    def __init__(
        self, indices: Positions, *, weights: npt.NDArray[np.float64], clips: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(indices, clips=clips, seed=seed)
        if len(weights) != len(indices) or weights.min() < 0 or weights.sum() <= 0:
            raise ValueError("balanced needs training clips with labels, got none")
        self._ends = np.cumsum(weights) / np.sum(weights)

    @property
    def repeats(self) -> bool:
        """It does."""
        return True

    def _draw(self, random: np.random.Generator) -> Positions:
        return np.minimum(np.searchsorted(self._ends, random.random(self.clips), side="right"), len(self.indices) - 1)
