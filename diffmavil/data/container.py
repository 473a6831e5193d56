"""Opening media files with PyAV: the streams, what the file says of itself, and decoded frames from somewhere on.

Nothing here trusts a file: formats that refer to other files are not opened, pictures have a largest size, and all that
is done with a file must be done before its deadline.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any, Final, Literal

import av
from av.error import ExitError
from av.stream import Disposition

from diffmavil.data.errors import (
    CANNOT_DECODE,
    CANNOT_OPEN,
    EMPTY_FILE,
    MISSING_FILE,
    NOT_MEDIA,
    TIMED_OUT,
    TOO_LARGE,
    MediaError,
)
from diffmavil.data.media import MediaInfo, Span
from diffmavil.data.missing import missing_hint
from diffmavil.data.upright import UPRIGHT, pixel_aspect, rotation_matrix

MAX_SIDE_PX: Final = 8192
"""Pictures with a longer side are not decoded, nor any with more pixels than its square."""

MAX_DURATION_S: Final = 1e6
"""No file lasts longer: one that says so is broken."""

_FORMATS: Final = """
    aac ac3 aiff amr amrnb amrwb ape asf au avi caf dts dtshd dv eac3 flac flv h264 hevc ivf loas m4v matroska mov mp3
    mpeg mpegts mpegvideo mxf nistsphere nut obu ogg rm tta w64 wav wv
"""
"""FFmpeg's names of sound and film. Left out are pictures, text, play lists and whatever else refers to other files."""

_ESTIMATED_DURATION: Final = frozenset("aac ac3 amr eac3 h264 hevc loas m4v mp3 mpegvideo".split())
"""Formats that state no duration: FFmpeg guesses it from the bit rate, so the packets are read for it."""

_STATED_TRACKS: Final = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "avi"})
"""Formats with an index: each track states its own length."""

_SIGNATURES: Final = (
    (4, b"ftyp"),
    (4, b"mdat"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"RIFF"),
    (0, b"OggS"),
    (0, b"fLaC"),
)
"""Offset and first bytes of common media files: one of these that does not open is a broken media file."""

_OPTIONS: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(_FORMATS.split()),
    "max_pixels": str(MAX_SIDE_PX**2),
}

_DECODER_OPTIONS: Final = {
    "max_pixels": str(MAX_SIDE_PX**2),
    "err_detect": "crccheck+bitstream+buffer+explode",  # damage is an error, not something to paint over
}

_PER_S: Final = 1_000_000
"""Unit of the container's times."""


class Container:
    """An open file: its first audio and first video stream that can be decoded.

    Times are in seconds from the file's first instant, the same one for sound and picture.

    Args:
        path: The file.
        timeout_s: Time for all that is done with it, from now on.

    Attributes:
        info: What the file says about itself.
        audio: The stream of sound, or ``None``.
        video: The stream of pictures, or ``None``; cover art is none.
        pixel_aspect: Width of the pictures' pixels over their height, where there are any.

    Raises:
        MediaError: If there is no such file, or if it is no media file.
    """

    info: MediaInfo
    audio: Any
    video: Any
    pixel_aspect: float
    _container: Any
    _zero_s: float
    _at_start: bool

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s, self._deadline = timeout_s, monotonic() + timeout_s
        if not os.path.isfile(path):
            raise MediaError(path, MISSING_FILE, missing_hint(path))
        try:
            with open(path, "rb") as file:
                self._head = file.read(16)
        except OSError as error:
            raise MediaError(path, CANNOT_OPEN, error.strerror or "") from error
        if not self._head:
            raise MediaError(path, EMPTY_FILE)
        self._open()
        try:
            if self.audio is None and self.video is None:
                raise MediaError(path, NOT_MEDIA, f"{self._container.format.name} without sound or picture")
            if self._container.format.name == "flac" and not self._head.startswith((b"fLaC", b"ID3")):
                raise MediaError(path, CANNOT_DECODE, "its header is lost")
            with self.errors():
                self._check_size()
                if self.video is not None:
                    stated = float(self.video.sample_aspect_ratio or 0)
                    self.pixel_aspect = pixel_aspect(stated, self.video.width, self.video.height)
                self.info = self._read_info()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the codec library's errors into ``MediaError``."""
        try:
            yield
        except ExitError as error:
            raise self._timed_out() from error
        except av.FFmpegError as error:
            raise MediaError(self._path, CANNOT_DECODE, error.strerror or str(error)) from error

    def decode(self, kind: Literal["audio", "video"], start_s: float) -> Iterator[tuple[float, Any]]:
        """Yield times and decoded frames of a stream from somewhere before ``start_s`` on.

        Raises:
            MediaError: At the deadline.
            av.FFmpegError: Where the stream is damaged.
        """
        is_whole = not self._seek(getattr(self, kind), start_s) and kind == "audio"
        stream = getattr(self, kind)  # another object if the file was opened again
        last_s, last, key_pts = 0.0, None, None
        for packet in self._container.demux(stream):
            if key_pts is None and packet.is_keyframe:
                key_pts = packet.pts
            try:
                frames = packet.decode()
            except av.FFmpegError:
                # the first packets and those that are shown before the key frame may refer to ones before them
                is_first = last is None or (key_pts is not None and packet.pts is not None and packet.pts < key_pts)
                if is_whole or not is_first:
                    raise
                continue
            for frame in frames:
                if monotonic() > self._deadline:
                    raise self._timed_out()
                if frame.time is not None:
                    last_s = frame.time - self._zero_s
                elif last is not None:
                    last_s += length_s(stream, last)
                last = frame
                yield last_s, frame

    def _seek(self, stream: Any, start_s: float) -> bool:
        """Go to the last place before ``start_s`` to decode from; ``False`` if that is the file's start."""
        has_sought = False
        # seeking back to the start of sound loses what lossy codecs in MP4 files begin with
        if start_s == -inf or (start_s <= 0.0 and not self._at_start and stream.type == "audio"):
            self._reopen()
        elif start_s > 0.0 or not self._at_start:
            try:
                offset = round((max(0.0, start_s) + self._zero_s) / stream.time_base)
                self._container.seek(offset, stream=stream)
                has_sought = True
            except av.FFmpegError:
                self._reopen()
        self._at_start = False
        return has_sought

    def _open(self) -> None:
        try:
            self._container = av.open(
                f"file:{self._path}", options=_OPTIONS, timeout=self._timeout_s, metadata_errors="replace"
            )
        except ExitError as error:
            raise self._timed_out() from error
        except av.FFmpegError as error:
            is_media = any(self._head.startswith(mark, at) for at, mark in _SIGNATURES)
            raise MediaError(self._path, CANNOT_DECODE if is_media else NOT_MEDIA, error.strerror or "") from error
        self._at_start = True
        self._zero_s = (self._container.start_time or 0) / _PER_S
        streams = self._container.streams
        self.audio = next((s for s in streams.audio if s.codec_context is not None), None)
        self.video = next((s for s in streams.video if _is_film(s)), None)
        for stream in (self.audio, self.video):
            if stream is not None:
                stream.codec_context.thread_type = "NONE"  # more threads only get in the way of other workers
                stream.codec_context.options = _DECODER_OPTIONS

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _check_size(self) -> None:
        if self.video is not None and max(self.video.width, self.video.height) > MAX_SIDE_PX:
            raise MediaError(self._path, TOO_LARGE, f"pictures of {self.video.width} x {self.video.height} pixels")

    def _read_info(self) -> MediaInfo:
        container = self._container
        if container.duration is None or container.format.name in _ESTIMATED_DURATION:
            ends_s = self._read_packets()
            duration_s = max(ends_s.values(), default=0.0)
        else:
            duration_s = container.duration / _PER_S
            ends_s = {stream.index: duration_s for stream in (self.audio, self.video) if stream is not None}
        if not 0.0 <= duration_s <= MAX_DURATION_S:
            raise MediaError(self._path, CANNOT_DECODE, f"it claims to last {duration_s:.0f} s")

        def span(stream: Any) -> Span | None:
            if stream is None:
                return None
            begin_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - self._zero_s
            stated_s = float(stream.duration * stream.time_base) if stream.duration else inf
            end_s: float = ends_s.get(stream.index, 0.0)
            return begin_s, min(begin_s + min(stated_s, _tagged_s(stream)), end_s)

        return MediaInfo(duration_s, span(self.audio), span(self.video))

    def is_cut_off(self, video_end_s: float, tolerance_s: float) -> bool:
        """Whether pictures that end before the file states are cut off; or else the last one stands from there on.

        Where the file is written as a stream, what is stated is often no more than the length of all. They are not cut
        off then if packets go on to that, and none is of later pictures. All of it is read for that, not decoded.

        Args:
            video_end_s: Where the last picture that can be decoded ends.
            tolerance_s: By how much stated ends may be too late.
        """
        if self._container.format.name in _STATED_TRACKS:
            return True
        self._reopen()
        ends_s = self._read_packets()
        is_whole = max(ends_s.values(), default=0.0) >= self.info.duration_s - tolerance_s
        return not is_whole or ends_s.get(self.video.index, 0.0) > video_end_s + tolerance_s

    def _read_packets(self) -> dict[int, float]:
        """End of each stream, from reading the whole file without decoding it."""
        ends_s: dict[int, float] = {}
        for packet in self._container.demux([s for s in (self.audio, self.video) if s is not None]):
            if monotonic() > self._deadline:
                raise self._timed_out()
            end_s = ends_s.get(packet.stream_index, 0.0)
            if packet.pts is not None:
                time_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._zero_s
                ends_s[packet.stream_index] = max(end_s, time_s)
            elif packet.size and packet.stream.type == "video":  # bare pictures have no time stamps
                ends_s[packet.stream_index] = end_s + float(1 / (packet.stream.guessed_rate or 25))
        self._reopen()
        return ends_s

    def _timed_out(self) -> MediaError:
        return MediaError(self._path, TIMED_OUT, f"not done after {self._timeout_s:g} s")


def length_s(stream: Any, frame: Any) -> float:
    """How long a decoded frame lasts."""
    if stream.type == "audio":
        return float(frame.samples / frame.sample_rate)
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / (stream.guessed_rate or 25))


def display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """How a decoded frame is to be turned and mirrored: a, b, c, d of :func:`diffmavil.data.upright.upright`."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # the frame also has side data of a kind that PyAV has no name for, and it gives none then
        return rotation_matrix(float(frame.rotation))
    if data is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("5i", bytes(data)[:20])
    return float(a), float(b), float(c), float(d)


def _is_film(stream: Any) -> bool:
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.codec_context is not None and not stream.disposition & cover


def _tagged_s(stream: Any) -> float:
    """Duration that Matroska files keep in a tag, such as 00:00:09.960000000; infinite without one."""
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return inf
