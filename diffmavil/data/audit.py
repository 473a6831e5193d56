"""What a clip must be to be worth training on."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
import numpy.typing as npt

from diffmavil.checks import check_number
from diffmavil.data.errors import APART, NO_AUDIO, NO_VIDEO, SILENT, STILL, TOO_LONG, TOO_SHORT, MediaError
from diffmavil.data.media import MAX_CUT_SHORT_S, Span

_FULL_SCALE: Final = 32768
_BLOCK_PX: Final = 16

STILL_LEVELS: Final = 2.0
"""Levels by which a block of a picture that is still may differ, where nothing else is said."""

_ROUNDING_S: Final = 1e-3
_LONGEST_S: Final = 86400.0


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Checks on the content of a clip; ``null`` turns one off.

    Args:
        min_clip_s: Seconds that a clip must have of each of its streams.
        max_clip_s: Seconds that it may have; a clip is put together in memory. Cut longer files with a manifest.
        silence_dbfs: A clip whose loudest sample is below this many decibels of full scale is silent.
        still_levels: Where in no picture a block of 16 x 16 pixels differs from the first picture's by more than this
            in red, green or blue (mean over the block, in levels of 0 to 255), the picture is still.
        apart_s: Sound and picture may begin, and end, this many seconds apart.
        cut_short_s: Seconds that a file may lack at the end of a segment.

    Raises:
        ValueError: If a number is outside its range.
    """

    min_clip_s: float = 0.5
    max_clip_s: float | None = 600.0
    silence_dbfs: float | None = -60.0
    still_levels: float | None = STILL_LEVELS
    apart_s: float | None = 0.5
    cut_short_s: float | None = MAX_CUT_SHORT_S

    def __post_init__(self) -> None:
        check_number("min_clip_s", self.min_clip_s, at_least=0, limit=_LONGEST_S)
        check_number("max_clip_s", self.max_clip_s, above=0, limit=_LONGEST_S, optional=True)
        if self.max_clip_s is not None and self.max_clip_s <= self.min_clip_s:
            raise ValueError(f"max_clip_s must be above min_clip_s = {self.min_clip_s}, got {self.max_clip_s}")
        check_number("silence_dbfs", self.silence_dbfs, at_least=-1000, at_most=0, optional=True)
        check_number("still_levels", self.still_levels, at_least=0, at_most=255, optional=True)
        check_number("apart_s", self.apart_s, at_least=0, limit=_LONGEST_S, optional=True)
        check_number("cut_short_s", self.cut_short_s, at_least=0, limit=_LONGEST_S, optional=True)

    def check_spans(self, path: str, spans: dict[str, Span | None]) -> None:
        """Check what the file says of itself, before anything is decoded.

        Args:
            path: The file.
            spans: Start and end of the wanted streams, ``"audio"`` and ``"video"``, within the clip.

        Raises:
            MediaError: If a stream is missing, the clip too short or too long, or the streams lie apart.
        """
        found: list[Span] = []
        for kind, reason in (("audio", NO_AUDIO), ("video", NO_VIDEO)):
            span = spans.get(kind)
            if span is not None:
                found.append(span)
            elif kind in spans:
                raise MediaError(path, reason)
        shortest_s, longest_s = min(end - start for start, end in found), max(end for _, end in found)
        if shortest_s < max(self.min_clip_s - _ROUNDING_S, _ROUNDING_S):
            raise MediaError(path, TOO_SHORT, f"{max(0.0, shortest_s):.2f} s")
        if self.max_clip_s is not None and longest_s > self.max_clip_s + _ROUNDING_S:
            raise MediaError(path, TOO_LONG, f"{longest_s:.2f} s, at most {self.max_clip_s:g} s")
        self.check_together(path, found)

    def check_together(self, path: str, spans: list[Span]) -> None:
        """Check that sound and picture begin and end together.

        Args:
            path: The file.
            spans: Start and end of the wanted streams, within the clip.

        Raises:
            MediaError: If they lie apart.
        """
        for what, places_s in (("begin", [start for start, _ in spans]), ("end", [end for _, end in spans])):
            if self.apart_s is not None and max(places_s) - min(places_s) > self.apart_s:
                detail = f"sound and picture {what} at {places_s[0]:.2f} s and {places_s[1]:.2f} s"
                raise MediaError(path, APART, detail)

    def check_segment(self, path: str, length_s: float, found_s: float) -> None:
        """Check that the file has the whole of a segment.

        Args:
            path: The file.
            length_s: How long the segment is to be; infinite where it goes to the file's end.
            found_s: How much of it the file has of each wanted stream.

        Raises:
            MediaError: If more than ``cut_short_s`` of it is missing.
        """
        check_segment(path, length_s, found_s, self.cut_short_s)

    def check_sound(self, path: str, samples: npt.NDArray[np.int16]) -> None:
        """Check the sound of a clip.

        Args:
            path: The file.
            samples: The sound, of shape (samples,).

        Raises:
            MediaError: If there is none, or if it is silent.
        """
        if len(samples) == 0:
            raise MediaError(path, TOO_SHORT, "no sound")
        if self.silence_dbfs is not None:
            peak = max(int(samples.max()), -int(samples.min())) / _FULL_SCALE
            if peak < 10 ** (self.silence_dbfs / 20):
                raise MediaError(path, SILENT, f"peak {20 * np.log10(peak):.1f} dBFS" if peak else "all zeros")

    def moves(self, first: npt.NDArray[np.uint8], picture: npt.NDArray[np.uint8]) -> bool:
        """Whether a picture differs from the first one.

        Args:
            first: The clip's first picture, of shape (H, W, 3).
            picture: Another, of that shape.
        """
        return self.still_levels is None or moves(first, picture, self.still_levels)

    def check_moved(self, path: str, moved: bool, count: int) -> None:
        """Check that something moves in a clip of several pictures.

        Args:
            path: The file.
            moved: Whether any picture differs from the first.
            count: How many there are.

        Raises:
            MediaError: If the picture is still.
        """
        if count > 1 and not moved:
            raise MediaError(path, STILL, f"{count} pictures")


def check_segment(path: str, length_s: float, found_s: float, cut_short_s: float | None) -> None:
    """Check that a file has the whole of a segment: one rule for what is prepared and for what is read.

    Args:
        path: The file.
        length_s: How long the segment is to be; infinite where it goes to the file's end.
        found_s: How much of it the file has of each wanted stream.
        cut_short_s: How much it may lack; ``None``: any.

    Raises:
        MediaError: If it lacks more.
    """
    if cut_short_s is not None and length_s < inf and found_s < length_s - cut_short_s:
        raise MediaError(path, TOO_SHORT, f"the file has {max(0.0, found_s):.2f} s of the segment's {length_s:.2f} s")


def moves(first: npt.NDArray[np.uint8], picture: npt.NDArray[np.uint8], levels: float) -> bool:
    """Whether a picture differs from another one: a block of 16 x 16 pixels in red, green or blue, on the average.

    It is over as soon as one does, from the middle outwards: on a CPU 40 us where much moves, 0.3 ms where nothing does
    (224 x 224 pixels).

    Args:
        first: A picture, of shape (H, W, 3).
        picture: The other, of that shape.
        levels: Mean difference over the block that does not count, of 255.
    """
    height, width = first.shape[:2]
    columns = np.arange(0, width, _BLOCK_PX)
    widths = np.minimum(_BLOCK_PX, width - columns)[:, None]
    for top in sorted(range(0, height, _BLOCK_PX), key=lambda top: abs(top - height // 2)):
        rows = slice(top, top + _BLOCK_PX)
        one, other = first[rows], picture[rows]
        sums = (np.maximum(one, other) - np.minimum(one, other)).sum(axis=0, dtype=np.uint16)  # up to 4080
        means = np.add.reduceat(sums, columns) / (widths * len(one))
        if means.max() > levels:
            return True
    return False


def is_silent(samples: npt.NDArray[np.int16]) -> bool:
    """Whether there is digital silence: no sample differs from the others."""
    return bool(samples.min() == samples.max()) if len(samples) else True
