"""What a clip is read through, whether it is a media file or part of a shard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt

Span = tuple[float, float]
"""Start and end in seconds."""

TIMEOUT_S: Final = 30.0
"""Seconds for all that is done with a file, where nothing else is said."""

MAX_CUT_SHORT_S: Final = 0.5
"""Seconds that a file may lack at the end of a segment, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a clip's file says about itself.

    Args:
        duration_s: Length of the file.
        audio_s: Start and end of the sound; ``None`` without sound.
        video_s: Start and end of the pictures; ``None`` without pictures (cover art is none).
    """

    duration_s: float
    audio_s: Span | None
    video_s: Span | None

    @property
    def shown_s(self) -> Span | None:
        """From when until when there is a picture to see: the last one stands until the sound ends."""
        if self.video_s is None or self.audio_s is None:
            return self.video_s
        return self.video_s[0], max(self.video_s[1], self.audio_s[1])


class Media(ABC):
    """Sound and pictures of one open file, for ``with``.

    Times are in seconds from the file's first instant, the same one for sound and picture.

    Attributes:
        path: The file, or where in a shard the clip is; for messages.
        info: What there is.
        max_fps: Most pictures a second that there are, where that is the choice of who prepared them.
        cut_short_s: Seconds that it may lack at the end of a segment; ``None`` where that has been checked before.
    """

    path: str
    info: MediaInfo
    max_fps: float | None = None
    cut_short_s: float | None = MAX_CUT_SHORT_S

    def __enter__(self) -> Media:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""

    @abstractmethod
    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        """Decode a window of the sound: the mean of the channels, 16 bit.

        Args:
            start_s: Start of the window.
            duration_s: Its length.
            sample_rate_hz: Wanted sample rate.

        Returns:
            The whole window, or less where the sound ends in it.

        Raises:
            MediaError: If that cannot be had.
        """

    @abstractmethod
    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> Iterable[npt.NDArray[np.uint8]]:
        """Decode the pictures that are shown at some instants.

        Args:
            times_s: The instants, in ascending order, at least one.
            short_side: Pixels to which the shorter side of larger pictures is brought; ``None``: all as they are.

        Returns:
            RGB pictures, upright, one for each instant, all of one shape (H, W, 3); after the last one begins, the last
            one, until ``info.shown_s`` ends. They may be decoded as they are taken, so that no more than one is held in
            memory; take all before anything else is asked of the file. Two may be the same object.

        Raises:
            MediaError: If that cannot be had; perhaps not before the first picture is taken.
        """
