"""Reading sound and pictures of media files, with PyAV.

Times are in seconds from the file's first instant, the same one for sound and picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from types import TracebackType
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from diffmavil.data.errors import (
    CANNOT_DECODE,
    CANNOT_OPEN,
    EMPTY_FILE,
    MISSING_FILE,
    NO_AUDIO,
    NO_VIDEO,
    NOT_MEDIA,
    MediaError,
)
from diffmavil.data.media import Media, MediaInfo, Span
from diffmavil.data.mono import Mono

_PREROLL_S: Final = 0.25
"""Sound decoded before a window, so that codecs with memory have settled when it begins."""

_MISSING_S: Final = 0.25
"""Stated durations may be too long by this much; where more is missing, the file is truncated."""

_ROUNDING_S: Final = 1e-3
"""Containers round time stamps to a millisecond."""

_STEPS_BACK_S: Final = (0.0, 10.0, inf)
"""Some containers seek too far: how much earlier to try again."""

_SIGNATURES: Final = (
    (4, b"ftyp"),
    (4, b"mdat"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"RIFF"),
    (0, b"OggS"),
    (0, b"fLaC"),
)
"""Offset and first bytes of common media files: one of these that does not open is a broken media file."""

_ESTIMATED_DURATION: Final = frozenset("aac ac3 amr eac3 h264 hevc loas m4v mp3 mpegvideo".split())
"""Formats that state no duration: FFmpeg guesses it from the bit rate, so the packets are read for it."""


class MediaFile(Media):
    """An open media file, for ``with``: its first audio and first video stream that can be decoded.

    Args:
        path: The file.

    Raises:
        MediaError: If there is no such file, or if it is no media file.
    """

    info: MediaInfo
    _container: Any
    _audio: Any
    _video: Any
    _zero_s: float
    _at_start: bool
    _to_rgb: VideoReformatter

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._to_rgb = VideoReformatter()
        if not os.path.isfile(self.path):
            raise MediaError(self.path, MISSING_FILE)
        try:
            with open(self.path, "rb") as file:
                if not file.read(1):
                    raise MediaError(self.path, EMPTY_FILE)
        except OSError as error:
            raise MediaError(self.path, CANNOT_OPEN, error.strerror or "") from error
        self._open()
        try:
            if self._audio is None and self._video is None:
                raise MediaError(self.path, NOT_MEDIA, f"{self._container.format.name} without sound or picture")
            with _codec_errors(self.path):
                self.info = self._read_info()
        except BaseException:
            self._container.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        """Decode a window of the sound.

        Args:
            start_s: Start of the window.
            duration_s: Its length.
            sample_rate_hz: Wanted sample rate.

        Returns:
            Mean of the channels, 16 bit: the whole window, or less where the sound ends in it. Zeros come
            first where the sound begins after ``start_s``.

        Raises:
            MediaError: If there is no audio track, or less sound than the file states.
        """
        if self.info.audio_s is None:
            raise MediaError(self.path, NO_AUDIO)
        mono = Mono(sample_rate_hz)
        first_s: float | None = None
        with _codec_errors(self.path):
            for time_s, frame in self._decode(self._audio, start_s - _PREROLL_S):
                if time_s >= start_s + duration_s:
                    break
                if time_s + frame.samples / frame.sample_rate > start_s - _PREROLL_S / 2:
                    first_s = time_s if first_s is None else first_s
                    mono.push(frame)
            samples = mono.finish()
        early = 0 if first_s is None else round((start_s - first_s) * sample_rate_hz)
        samples = np.pad(samples, (max(0, -early), 0))[max(0, early) :][: round(duration_s * sample_rate_hz)]
        end_s = start_s + len(samples) / sample_rate_hz
        self._check_length("sound", end_s, start_s + duration_s, self.info.audio_s)
        return samples

    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> npt.NDArray[np.uint8]:
        """Decode the pictures that are shown at some instants.

        Args:
            times_s: The instants, in ascending order, at least one.
            short_side: Pixels to which the shorter side of larger pictures is brought; ``None``: all as they are.

        Returns:
            RGB pictures, upright, of shape (T, H, W, 3): at each instant the last one that began before or at
            it; before the first picture, the first.

        Raises:
            MediaError: If there is no video track, or fewer pictures than the file states.
        """
        if self.info.video_s is None:
            raise MediaError(self.path, NO_VIDEO)
        pictures: list[npt.NDArray[np.uint8]] | None = None
        with _codec_errors(self.path):
            for back_s in _STEPS_BACK_S:
                pictures = self._frames_from(times_s[0] - back_s, times_s, self.info.video_s, short_side)
                if pictures is not None:
                    break
        if not pictures or any(picture.shape != pictures[0].shape for picture in pictures):
            raise MediaError(self.path, CANNOT_DECODE, "the picture changes its size")
        return np.stack(pictures)

    def _frames_from(
        self, start_s: float, times_s: Sequence[float], span_s: Span, short_side: int | None
    ) -> list[npt.NDArray[np.uint8]] | None:
        """Decode from ``start_s`` on; ``None`` if that turns out to lie after the first instant."""
        pictures: list[npt.NDArray[np.uint8]] = []
        shown: Any = None
        shown_s = 0.0
        for time_s, frame in self._decode(self._video, start_s):
            if shown is None and time_s > max(times_s[0], span_s[0]) + _ROUNDING_S and start_s > -inf:
                return None
            count = sum(wanted_s < time_s - _ROUNDING_S for wanted_s in times_s[len(pictures) :])
            if count:
                pictures += [self._picture(shown or frame, short_side)] * count
            if len(pictures) == len(times_s):
                return pictures
            shown, shown_s = frame, time_s
        if shown is None:
            raise MediaError(self.path, CANNOT_DECODE, f"no picture at {times_s[0]:.2f} s")
        self._check_length("picture", shown_s + _length_s(self._video, shown), times_s[-1], span_s)
        return pictures + [self._picture(shown, short_side)] * (len(times_s) - len(pictures))

    def _picture(self, frame: Any, short_side: int | None) -> npt.NDArray[np.uint8]:
        if frame.is_corrupt:
            raise MediaError(self.path, CANNOT_DECODE, "damaged picture")
        scale = min(1.0, (short_side or inf) / min(frame.width, frame.height))
        width, height = round(frame.width * scale), round(frame.height * scale)
        # one thread: FFmpeg would start one a core for every picture, which costs more than the conversion
        picture = self._to_rgb.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
        return np.rot90(picture.astype(np.uint8, copy=False), round(frame.rotation / 90))

    def _decode(self, stream: Any, start_s: float) -> Iterator[tuple[float, Any]]:
        """Yield times and decoded frames of a stream from somewhere before ``start_s`` on."""
        is_audio = stream.type == "audio"
        self._seek(stream, start_s)
        stream = self._audio if is_audio else self._video  # another object if the file was opened again
        last_s, last = 0.0, None
        for packet in self._container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if last is not None:
                    raise
                continue  # after a seek, the first packets may refer to ones before them
            for frame in frames:
                if frame.time is not None:
                    last_s = frame.time - self._zero_s
                elif last is not None:
                    last_s += _length_s(stream, last)
                last = frame
                yield last_s, frame

    def _seek(self, stream: Any, start_s: float) -> None:
        """Go to the last place before ``start_s`` to decode from; reopen the file where it cannot seek."""
        if start_s == -inf:
            self._reopen()
        elif start_s > 0.0 or not self._at_start:
            try:
                offset = round((max(0.0, start_s) + self._zero_s) / stream.time_base)
                self._container.seek(offset, stream=stream)
            except av.FFmpegError:
                self._reopen()
        self._at_start = False

    def _open(self) -> None:
        try:
            container = av.open(self.path, options={"protocol_whitelist": "file"}, metadata_errors="replace")
        except av.FFmpegError as error:
            with open(self.path, "rb") as file:
                head = file.read(16)
            is_media = any(head.startswith(mark, at) for at, mark in _SIGNATURES)
            reason = CANNOT_DECODE if is_media else NOT_MEDIA
            raise MediaError(self.path, reason, error.strerror or str(error)) from error
        self._container = container
        self._at_start = True
        self._zero_s = (container.start_time or 0) / _PER_S
        self._audio = next((s for s in container.streams.audio if s.codec_context is not None), None)
        self._video = next((s for s in container.streams.video if _is_film(s)), None)
        for stream in (self._audio, self._video):
            if stream is not None:
                stream.codec_context.thread_type = "NONE"  # more threads only get in the way of other workers

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _read_info(self) -> MediaInfo:
        container = self._container
        if container.duration is None or container.format.name in _ESTIMATED_DURATION:
            ends_s = self._read_packets()
            duration_s = max(ends_s.values(), default=0.0)
        else:
            duration_s = container.duration / _PER_S
            ends_s = {stream.index: duration_s for stream in (self._audio, self._video) if stream is not None}

        def span(stream: Any) -> Span | None:
            if stream is None:
                return None
            begin_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - self._zero_s
            stated_s = float(stream.duration * stream.time_base) if stream.duration else _tagged_s(stream)
            end_s: float = ends_s.get(stream.index, 0.0)
            return begin_s, min(begin_s + stated_s, end_s)

        return MediaInfo(duration_s, span(self._audio), span(self._video))

    def _read_packets(self) -> dict[int, float]:
        """End of each stream, from reading the whole file without decoding it."""
        ends_s: dict[int, float] = {}
        for packet in self._container.demux([s for s in (self._audio, self._video) if s is not None]):
            end_s = ends_s.get(packet.stream_index, 0.0)
            if packet.pts is not None:
                time_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._zero_s
                ends_s[packet.stream_index] = max(end_s, time_s)
            elif packet.size and packet.stream.type == "video":  # bare pictures have no time stamps
                ends_s[packet.stream_index] = end_s + float(1 / packet.stream.guessed_rate)
        self._reopen()
        return ends_s

    def _check_length(self, what: str, end_s: float, wanted_s: float, span_s: Span) -> None:
        if end_s < min(wanted_s, span_s[1]) - _MISSING_S:
            detail = f"the {what} breaks off at {end_s:.2f} s of {span_s[1]:.2f} s"
            raise MediaError(self.path, CANNOT_DECODE, detail)


_PER_S: Final = 1_000_000
"""Unit of the container's times."""


@contextmanager
def _codec_errors(path: str) -> Iterator[None]:
    """Turn the codec library's errors into ``MediaError``."""
    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(path, CANNOT_DECODE, error.strerror or str(error)) from error


def _is_film(stream: Any) -> bool:
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.codec_context is not None and not stream.disposition & cover


def _length_s(stream: Any, frame: Any) -> float:
    """How long a decoded frame lasts."""
    if stream.type == "audio":
        return float(frame.samples / frame.sample_rate)
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / (stream.guessed_rate or 25))


def _tagged_s(stream: Any) -> float:
    """Duration that Matroska files keep in a tag, such as 00:00:09.960000000; infinite without one."""
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return inf
