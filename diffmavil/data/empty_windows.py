"""Training windows in which there is nothing to learn from: silence, and pictures that do not move."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from diffmavil.types import RawBatch


@dataclass
class EmptyWindows:
    """How many windows a training has read so far, and how many of them had nothing in one of their streams.

    A clip counts once in each epoch that reads it.

    Args:
        windows: Windows read.
        silent: Those without sound: every sample the same.
        still: Those whose pictures do not differ, where a window has several.
    """

    windows: int = 0
    silent: int = 0
    still: int = 0

    def add(self, batch: RawBatch) -> None:
        """Count a training batch."""
        self.windows += len(batch.index)
        self.silent += 0 if batch.silent is None else int(batch.silent.sum())
        self.still += 0 if batch.still is None else int(batch.still.sum())

    def summary(self) -> str | None:
        """Such as ``of 240 training windows 12 are silent and 8 show a still picture``; ``None`` if none is."""
        found = [f"{self.silent} are silent"] if self.silent else []
        found += [f"{self.still} show a still picture"] if self.still else []
        return f"of {self.windows} training windows {' and '.join(found)}" if found else None

    def state(self) -> dict[str, int]:
        """The numbers, for a checkpoint."""
        return asdict(self)

    def load(self, state: dict[str, int]) -> None:
        """Count on from those of a checkpoint.

        Raises:
            ValueError: If they are not such numbers.
        """
        check_counts(state)
        self.windows, self.silent, self.still = state["windows"], state["silent"], state["still"]


def check_counts(state: Any) -> None:
    """Refuse what are no numbers of windows, as :meth:`EmptyWindows.state` gives them.

    Raises:
        ValueError: If so.
    """
    names = list(EmptyWindows().state())
    fits = isinstance(state, dict) and list(state) == names and all(type(count) is int for count in state.values())
    if not fits or not 0 <= max(state["silent"], state["still"]) <= state["windows"] or min(state.values()) < 0:
        raise ValueError(f"empty_windows must be numbers of windows: {', '.join(names)}")
