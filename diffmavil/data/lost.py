"""Telling a storage that is gone from clips that are bad: one rule for all that read clip after clip."""

from __future__ import annotations

from time import monotonic
from typing import Final

from diffmavil.data.errors import CANNOT_OPEN, MISSING_FILE, TIMED_OUT

MAYBE_GONE: Final = (MISSING_FILE, CANNOT_OPEN, TIMED_OUT)
"""Reasons behind which the storage may be gone, and all that is tried be lost."""

MOST_LOST: Final = 256
"""So many clips lost one after the other are the storage's fault: no more are tried."""

_MOST_LOST_SLOWLY: Final = (8, 60.0)
"""So are as many as this where it took more seconds than this."""


class LostInARow:
    """Counts clips that are lost one after the other.

    Args:
        most: So many of them, such as ``MOST_LOST``, are the storage's fault, and fewer where they take long; ``None``:
            none are.

    Attributes:
        count: How many there are now.
        is_gone: Whether the storage seems to be gone.
    """

    def __init__(self, most: int | None) -> None:
        self.count, self.is_gone = 0, False
        self._most, self._since_s = most, monotonic()

    def note(self, reason: str | None) -> None:
        """Note what came of a clip.

        Args:
            reason: Why it cannot be read; ``None``: it can.
        """
        if reason not in MAYBE_GONE:
            self.count, self.is_gone, self._since_s = 0, False, monotonic()
            return
        self.count += 1
        many, long_s = _MOST_LOST_SLOWLY
        is_slow = self.count >= many and monotonic() - self._since_s > long_s
        self.is_gone = self._most is not None and (self.count >= self._most or is_slow)
