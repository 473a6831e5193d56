"""Reading sound and pictures of media files, with PyAV.

Times are in seconds from the file's first instant, the same one for sound and picture.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import repeat
from math import inf
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from diffmavil.data.container import Container, length_s
from diffmavil.data.errors import CANNOT_DECODE, NO_AUDIO, NO_VIDEO, MediaError
from diffmavil.data.media import TIMEOUT_S, Media, MediaInfo, Span
from diffmavil.data.mono import Mono
from diffmavil.data.opening import MAX_SIDE_PX
from diffmavil.data.upright import display_matrix, shown_size, upright

Kind = Literal["audio", "video"]

_PREROLL_S: Final = 0.25
"""Sound decoded before a window, so that codecs with memory have settled when it begins."""

_MISSING_S: Final[dict[Kind, float]] = {"audio": 0.1, "video": 0.25}
"""Stated durations may be too long by this much; where more is missing, the file is truncated."""

_GAP_S: Final = 0.05
"""Time stamps of audio may go on or go back by this much; more is a pause, or damage."""

_LEAD_IN_S: Final = 0.15
"""Lossy codecs may begin with as much padding, which is not given out."""

_ROUNDING_S: Final = 1e-3
"""Containers round time stamps to a millisecond."""

_COUNTED_S: Final = 30.0
"""Windows up to here are decoded from the file's start: some codecs' noise depends on all that came before, and some
containers' time stamps are coarser than a sample."""

_STEPS_BACK_S: Final = (0.0, 10.0, inf)
"""Some containers seek too far: how much earlier to try again."""

_MAX_RATE_HZ: Final = 768_000

_FULL_SCALE: Final = 32768
"""The value 1 in 16 bits."""


class MediaFile(Media):
    """An open media file, for ``with``: its first audio and first video stream that can be decoded.

    Args:
        path: The file.
        timeout_s: Seconds for all that is done with the file.

    Raises:
        MediaError: If there is no such file, or if it is no media file.
        ValueError: If ``timeout_s`` is not positive.
    """

    info: MediaInfo

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = TIMEOUT_S) -> None:
        if not timeout_s > 0.0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        self.path = os.fspath(path)
        self._to_rgb = VideoReformatter()
        self._asked = 0  # how often something was asked for
        self._file = Container(self.path, timeout_s)
        self.info = self._file.info

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked += 1
        self._file.close()

    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        """Decode a window of the sound.

        Args:
            start_s: Start of the window, brought to the nearest sample.
            duration_s: Its length.
            sample_rate_hz: Wanted sample rate.

        Returns:
            Mean of the channels, 16 bit: the whole window, or less where the sound ends in it. Zeros come first where
            the sound begins after ``start_s``. Sample n of the file is the same in every window that holds it.

        Raises:
            MediaError: If there is no audio track, or less sound than the file states.
        """
        span_s = self.info.audio_s
        if span_s is None:
            raise MediaError(self.path, NO_AUDIO)
        self._asked += 1
        first, count = round(start_s * sample_rate_hz), round(duration_s * sample_rate_hz)
        with self._file.errors():
            for back_s in _STEPS_BACK_S:
                mono = Mono(sample_rate_hz, first, count)
                from_s = (0.0 if start_s < _COUNTED_S else start_s - _PREROLL_S) - back_s
                if self._hear(mono, from_s, start_s, span_s):
                    break
            sound = mono.window()
        self._check_length("audio", (first + len(sound)) / sample_rate_hz, start_s + duration_s, span_s)
        if not np.isfinite(sound).all():
            raise MediaError(self.path, CANNOT_DECODE, "the sound holds what is no number")
        return np.clip(np.rint(sound * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)

    def _hear(self, mono: Mono, from_s: float, start_s: float, span_s: Span) -> bool:
        """Decode from ``from_s`` on; ``False`` if that turns out to lie after the window's start."""
        hole_s = _LEAD_IN_S if self._file.audio.codec_context.codec.lossy else _GAP_S
        back_s = _LEAD_IN_S
        for time_s, frame in self._file.decode("audio", from_s):
            if frame.sample_rate > _MAX_RATE_HZ:
                raise MediaError(self.path, CANNOT_DECODE, f"its sample rate turns into {frame.sample_rate} Hz")
            known_s = max(start_s, span_s[0]) if mono.end_s is None else mono.end_s
            if min(time_s, mono.until_s) - known_s > hole_s:
                if mono.end_s is None and from_s > -inf:
                    return False
                if mono.end_s is None or time_s > span_s[1] + _GAP_S or not self._file.is_pause():
                    raise MediaError(self.path, CANNOT_DECODE, f"no audio from {known_s:.2f} s to {time_s:.2f} s")
                back_s = _GAP_S  # a time stamp that is wrong makes a pause and takes it back
            elif mono.end_s is not None and known_s - time_s > back_s:
                raise MediaError(self.path, CANNOT_DECODE, f"time goes back from {known_s:.2f} s to {time_s:.2f} s")
            mono.push(time_s, frame)
            hole_s = _GAP_S
            if mono.end_s and mono.end_s >= mono.until_s:
                break
        return mono.end_s is not None or from_s == -inf

    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
        """Decode the pictures that are shown at some instants.

        Args:
            times_s: The instants, in ascending order, at least one.
            short_side: Pixels to which the shorter side of larger pictures is brought; ``None``: all as they are.

        Yields:
            RGB pictures, upright and of square pixels, of one shape (H, W, 3): at each instant the last one that began
            before or at it; before the first picture, the first. The last one stands until the sound ends.

        Raises:
            MediaError: If there is no video track, or fewer pictures than the file states.
            RuntimeError: If something else was asked of the file, or it was closed, before all pictures were taken.
        """
        if self.info.video_s is None:
            raise MediaError(self.path, NO_VIDEO)
        self._asked += 1
        mine = self._asked
        first: npt.NDArray[np.uint8] | None = None
        with self._file.errors():
            for back_s in _STEPS_BACK_S:
                for picture in self._frames_from(times_s[0] - back_s, times_s, self.info.video_s, short_side):
                    first = picture if first is None else first
                    if picture.shape != first.shape:
                        raise MediaError(self.path, CANNOT_DECODE, "the picture changes its size")
                    yield picture
                    if self._asked != mine:  # FFmpeg would go on somewhere else, or in memory that is gone
                        raise RuntimeError(f"{self.path}: all pictures must be taken before anything else is asked for")
                if first is not None:
                    return

    def _frames_from(
        self, start_s: float, times_s: Sequence[float], span_s: Span, short_side: int | None
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Decode from ``start_s`` on; nothing if that turns out to lie after the first instant."""
        done = 0
        shown: Any = None
        shown_s = 0.0
        begins_s = max(times_s[0], span_s[0])
        for time_s, frame in self._file.decode("video", start_s):
            if shown is None and time_s > begins_s + _ROUNDING_S and start_s > -inf:
                return
            if shown is None and time_s > begins_s + _MISSING_S["video"]:
                raise MediaError(self.path, CANNOT_DECODE, f"no picture from {begins_s:.2f} s to {time_s:.2f} s")
            past = bisect_left(times_s, time_s - _ROUNDING_S, lo=done)
            if past > done:
                yield from repeat(self._picture(shown or frame, short_side), past - done)
            done = past
            if done == len(times_s):
                return
            shown, shown_s = frame, time_s
        if shown is None and start_s > -inf:
            return
        if shown is None:
            raise MediaError(self.path, CANNOT_DECODE, f"no picture at {times_s[0]:.2f} s")
        self._check_length("video", shown_s + length_s(self._file.video, shown), times_s[-1], span_s)
        yield from repeat(self._picture(shown, short_side), len(times_s) - done)

    def _picture(self, frame: Any, short_side: int | None) -> npt.NDArray[np.uint8]:
        if frame.is_corrupt:
            raise MediaError(self.path, CANNOT_DECODE, "damaged picture")
        size = self._file.frame_size(frame)  # others are scaled to it, as FFmpeg does
        width, height = shown_size(*size, self._file.pixel_aspect, short_side, MAX_SIDE_PX)
        # one thread: FFmpeg would start one a core for every picture, which costs more than the conversion
        picture = self._to_rgb.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
        return upright(picture.astype(np.uint8, copy=False), display_matrix(frame))

    def _check_length(self, kind: Kind, end_s: float, wanted_s: float, span_s: Span) -> None:
        missing_s = _MISSING_S[kind]
        if end_s < min(wanted_s, span_s[1]) - missing_s and self._file.is_cut_off(kind, end_s, missing_s):
            raise MediaError(self.path, CANNOT_DECODE, f"the {kind} breaks off at {end_s:.2f} s of {span_s[1]:.2f} s")
