"""Which clips are read when: a pure function of seed, epoch, rank, number of ranks and batch size."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from torch.utils.data import Sampler

from diffmavil.data.dataset import Request
from diffmavil.data.order import Order


class EpochSampler(Sampler[list[Request]]):
    """Batches of one epoch on one rank.

    Batch k of all ranks together is piece k of the epoch's order; of it rank r takes every ``world``-th clip from r on.
    In training, what does not fill a batch of all ranks is dropped. Otherwise all ranks have equally many batches, the
    last perhaps short or empty.

    An epoch that was left in its middle is gone on with by :meth:`load_state_dict`: with its next batch.

    Args:
        order: What an epoch reads.
        batch_size: Clips of a batch on one rank, or a function that gives it for an epoch.
        training: Whether this is for training.
        epoch: The epoch.
        rank: This process.
        world: Number of processes.
        overfit: Whether all epochs read what the first does: clips, windows and crops.

    Raises:
        ValueError: If a number is out of its range, or if training has too few clips for a batch.
    """

    def __init__(
        self,
        *,
        order: Order,
        batch_size: int | Callable[[int], int],
        training: bool,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        overfit: bool = False,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in [0, {world}), got {rank}")
        self._order = order
        self._batch_size = batch_size
        self.training = training
        self.epoch = epoch
        self.rank = rank
        self.world = world
        self._overfit = overfit
        self._done = 0  # batches of this epoch before it was gone on with
        self.given = 0
        """Batches that the loader has handed out since this epoch was begun or gone on with; the loader counts."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.training and self._order.clips < self.batch_size * world:
            clips = f"{order.clips} training clips" + (f" on {world} processes" if world > 1 else "")
            raise ValueError(f"batch_size must be at most {order.clips // world} with {clips}, got {self.batch_size}")

    @property
    def batch_size(self) -> int:
        """Clips of a batch on one rank, in this epoch."""
        return self._batch_size if isinstance(self._batch_size, int) else self._batch_size(self.epoch)

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning calls ``set_epoch`` on a batch sampler's ``sampler`` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; the epoch at hand is left where it stands."""
        if epoch != self.epoch:
            self.epoch, self._done, self.given = epoch, 0, 0

    @property
    def _drawn(self) -> int:
        """The epoch by which clips, windows and crops are drawn."""
        return 0 if self._overfit else self.epoch

    @property
    def _of_all(self) -> int:
        """Clips of a batch on all ranks together."""
        return self.batch_size * self.world

    def state_dict(self) -> dict[str, int]:
        """The epoch, the batches handed out in it, and what they are made of; a full epoch is the next one's start."""
        batches = self._done + self.given
        if batches >= len(self):
            return {"epoch": self.epoch + 1, "batches": 0}
        return {
            "epoch": self.epoch,
            "batches": batches,
            "global_batch": self._of_all,
            "clips": self._order.clips,
            "order": self._checksum(),
        }

    def _checksum(self) -> int:
        """Of the order of the epoch; drawn again at each call, which takes a quarter of a second for two million."""
        return zlib.crc32(self._order(self._drawn).tobytes())

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go to where an epoch was left; to its end, where it is said to have ``ended`` before all was read.

        Raises:
            ValueError: If that was in its middle, and the batches of all ranks together are now made otherwise.
        """
        self.epoch, self._done, self.given = state_dict["epoch"], state_dict["batches"], 0
        if state_dict.get("ended"):
            self._done = len(self)
            return
        for name, what, now in (
            ("global_batch", "data.batch_size times the number of processes", self._of_all),
            ("clips", "the number of training clips", self._order.clips),
        ):
            if (then := state_dict.get(name, now)) != now:
                raise ValueError(
                    f"{what} must be {then}, as when epoch {self.epoch} was left in its middle, got {now}; "
                    "a checkpoint from an epoch's end goes on with any"
                )
        if state_dict["batches"] and state_dict.get("order", now := self._checksum()) != now:
            rule = f"must come in the order in which epoch {self.epoch} was left in its middle"
            raise ValueError(f"the clips {rule}, got another: data.seed, data.source or what shuffles has changed")

    def __len__(self) -> int:
        """Batches of the whole epoch, those before it was left among them."""
        return self._order.clips // self._of_all if self.training else -(-self._order.clips // self._of_all)

    def __iter__(self) -> Iterator[list[Request]]:
        drawn, size = self._drawn, self.batch_size
        order = self._order(drawn)
        mine = range(self.rank, len(order), self.world)
        for k in range(self._done, len(self)):
            places = mine[k * size : (k + 1) * size]
            yield [Request(drawn, int(order[at]), at if self._order.repeats else 0) for at in places]
