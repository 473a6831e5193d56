"""An open media file: its streams, what it says of itself, and decoded frames from somewhere on.

All that is done with a file must be done before its deadline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from math import inf
from time import monotonic
from typing import Any, Final, Literal

import av
from av.error import ExitError

from diffmavil.data.errors import CANNOT_DECODE, NOT_MEDIA, TIMED_OUT, TOO_LARGE, MediaError
from diffmavil.data.lengths import Ends, is_counted, is_renumbered, packet_length_s, read_lengths, states_tracks
from diffmavil.data.media import MediaInfo
from diffmavil.data.numbering import is_in_row_flac, is_in_row_ogg_flac, is_in_row_wavpack
from diffmavil.data.opening import MAX_SIDE_PX, first_streams, open_file, read_head
from diffmavil.data.upright import pixel_aspect
from diffmavil.data.wholeness import WALKS, largest_flac_frame

MAX_DURATION_S: Final = 1e6
"""No file lasts longer: one that says so is broken."""

_STATE_TOO_MUCH: Final = frozenset({"asf", "avi", "ogg"})
"""Formats that may state more than they have: their structure shows whether they are cut off."""

_PAGE_S: Final = 5.0
"""How much earlier Ogg FLAC is read: few of its pages are longer."""

_ROUNDING_S: Final = 1e-3
"""By how much stated ends may differ from those that are read."""

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
    _format: str
    _zero_s: float
    _at_start: bool
    _stated_size: tuple[int, int]
    _size: tuple[int, int] | None
    _is_intact: bool | None
    _is_in_row: bool

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s, self._deadline = timeout_s, monotonic() + timeout_s
        self._size = self._is_intact = None
        self._head = read_head(path)
        self._open()
        try:
            if self.audio is None and self.video is None:
                raise MediaError(path, NOT_MEDIA, f"{self._container.format.name} without sound or picture")
            if self._container.format.name == "flac" and not self._head.startswith((b"fLaC", b"ID3")):
                raise MediaError(path, CANNOT_DECODE, "its header is lost")
            with self.errors():
                self._check_size()
                self._is_in_row = self._are_in_row()
                self._format = self._name()
                if self.video is not None:
                    stated = float(self.video.sample_aspect_ratio or 0)
                    self._stated_size = self.video.width, self.video.height
                    self.pixel_aspect = pixel_aspect(stated, *self._stated_size)
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

        Nothing comes where seeking turns out to have gone too far in Ogg FLAC.

        Raises:
            MediaError: At the deadline.
            av.FFmpegError: Where the stream is damaged.
        """
        is_paged = kind == "audio" and self._format == "ogg" and self._is_flac()
        is_whole = not self._seek(getattr(self, kind), start_s - _PAGE_S * is_paged) and kind == "audio"
        is_paged = is_paged and not is_whole
        stream = getattr(self, kind)  # another object if the file was opened again
        last_s, shift_s, last, key_pts, page = 0.0, 0.0, None, None, None
        largest, pts = largest_flac_frame(stream) if self._format == "flac" else inf, -inf
        for packet, following in pairwise(chain(self._container.demux(stream), [None])):
            if page is None:
                page = packet.pos
            if is_paged and packet.pos == page:
                continue  # FFmpeg gives the first frame of the page that it goes to the time of its last
            if packet.pts is not None:
                if packet.pts < pts:
                    largest = inf  # another file was joined to this one
                pts = packet.pts
            # the last one has all that lies behind it, such as tags
            is_last = not (following and following.size) and self._ends_as_stated(packet)
            if packet.size > largest and not is_last and (is_whole or last is not None):
                raise MediaError(self._path, CANNOT_DECODE, "a frame of audio is lost")
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
                self._check_time()
                due_s = None if last is None else last_s + length_s(stream, last)
                last_s = (due_s or 0.0) if frame.time is None else frame.time - self._zero_s + shift_s
                if due_s is None and is_whole and self._is_renumbered():
                    due_s = 0.0
                if due_s is not None and is_counted(self._format, last_s < due_s):
                    shift_s, last_s = shift_s + due_s - last_s, due_s
                if is_paged and last is None and last_s > start_s:
                    return
                last = frame
                yield last_s, frame

    def _ends_as_stated(self, packet: Any) -> bool:
        """Whether a packet lasts until the end that the file states."""
        end_s = (packet.pts + packet.duration) * packet.time_base if packet.pts is not None else 0
        return float(end_s) >= (self._container.duration or 0) / _PER_S - _ROUNDING_S

    def frame_size(self, frame: Any) -> tuple[int, int]:
        """Width and height of the file's first frame, to which those of another size are brought.

        Args:
            frame: A decoded frame: most are of the size that the file states, and the first one need not be decoded.
        """
        if self._size is None and (frame.width, frame.height) != self._stated_size:
            file = Container(self._path, max(1e-3, self._deadline - monotonic()))
            try:
                _, first = next(file.decode("video", -inf))
            finally:
                file.close()
            self._size = first.width, first.height
        return self._size or (frame.width, frame.height)

    def _seek(self, stream: Any, start_s: float) -> bool:
        """Go to the last place before ``start_s`` to decode from; ``False`` if that is the file's start."""
        has_sought = False
        # seeking back to the start of audio loses what lossy codecs in MP4 files begin with; blocks of WavPack and
        # pages of Ogg FLAC keep their numbers where a file is cut or joined
        if (
            start_s == -inf
            or self._is_renumbered()
            or (start_s <= 0.0 and not self._at_start and stream.type == "audio")
        ):
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
            self._container = open_file(self._path, self._head, self._timeout_s)
        except ExitError as error:
            raise self._timed_out() from error
        self._at_start = True
        self._zero_s = (self._container.start_time or 0) / _PER_S
        self.audio, self.video = first_streams(self._container)

    def _name(self) -> str:
        """FFmpeg's name of the format; ``oggflac`` for FLAC in Ogg that is whole, but not in a row."""
        name = str(self._container.format.name)
        is_counted = name == "ogg" and self._is_flac() and not self._is_in_row and self._walk()
        return "oggflac" if is_counted else name

    def _is_flac(self) -> bool:
        return self.video is None and self.audio is not None and self.audio.codec_context.name == "flac"

    def _are_in_row(self) -> bool:
        """Whether frames that have numbers begin with 0 and go on to the stated end."""
        name = self._container.format.name
        if name == "wv":
            return is_in_row_wavpack(self._path, self._check_time)
        if name == "ogg" and self._is_flac():
            return is_in_row_ogg_flac(self._path, self._check_time)
        if name == "flac" and self._is_flac():
            try:
                size = os.path.getsize(self._path)
                return is_in_row_flac(self._container, self.audio, size, self._check_time)
            except av.FFmpegError:
                return False
            finally:
                self._reopen()
        return False

    def _is_renumbered(self) -> bool:
        """Whether the file can only be read from its start."""
        return is_renumbered(self._format) and not self._is_in_row

    def _walk(self) -> bool:
        """Whether the file's structure shows that nothing is missing; the file is walked through once."""
        if self._is_intact is None:
            walk = WALKS.get(self._container.format.name)
            self._is_intact = walk is not None and walk(self._path, self._check_time)
        return self._is_intact

    def _check_time(self) -> None:
        if monotonic() > self._deadline:
            raise self._timed_out()

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _check_size(self) -> None:
        if self.video is not None and max(self.video.width, self.video.height) > MAX_SIDE_PX:
            raise MediaError(self._path, TOO_LARGE, f"pictures of {self.video.width} x {self.video.height} pixels")

    def _read_info(self) -> MediaInfo:
        streams = {"audio": self.audio, "video": self.video}
        info = read_lengths(self._container, self._format, streams, self._packet_ends, self._is_whole, self._is_in_row)
        if not 0.0 <= info.duration_s <= MAX_DURATION_S:
            raise MediaError(self._path, CANNOT_DECODE, f"it claims to last {info.duration_s:.0f} s")
        return info

    def is_cut_off(self, kind: Literal["audio", "video"], end_s: float, tolerance_s: float) -> bool:
        """Whether a stream that ends before the file states is cut off; or else it is shorter than others.

        Where the file is written as a stream, what is stated is often no more than the length of all. It is not cut
        off then if packets go on to that, and none of its own is later. All of it is read for that, not decoded.

        Args:
            kind: Which stream.
            end_s: Where the last frame that can be decoded ends.
            tolerance_s: By how much stated ends may be too late.
        """
        if states_tracks(self._format):
            return True
        if self._format in _STATE_TOO_MUCH:
            return not self._is_whole()
        ends_s = self._packet_ends(-inf)
        is_whole = max(ends_s.values(), default=0.0) >= self.info.duration_s - tolerance_s
        return not is_whole or ends_s.get(getattr(self, kind).index, 0.0) > end_s + tolerance_s

    def _is_whole(self) -> bool:
        """Whether the file's structure shows that nothing is missing, where what it states may be too much."""
        return self._format in _STATE_TOO_MUCH and self._walk()

    def is_pause(self) -> bool:
        """Whether a hole in the audio that was decoded last is a pause, as nothing of the file is missing.

        Formats with an index lose no packet without a trace. In what has neither that nor a structure that shows it,
        there are no pauses. ASF's packets have several parts, of which one may be lost.
        """
        if states_tracks(self._format):
            return True
        return self._format in WALKS and self._format != "asf" and self._walk()

    def _packet_ends(self, from_s: float) -> Ends:
        """End of each stream that has packets from a time on, without decoding them; ``-inf``: of the whole file."""
        self._reopen()
        is_whole = from_s == -inf
        if not is_whole:
            try:
                self._container.seek(round((from_s + self._zero_s) * _PER_S))
            except av.FFmpegError:
                self._reopen()
        ends_s: Ends = {}
        for packet in self._container.demux([s for s in (self.audio, self.video) if s is not None]):
            self._check_time()
            index = packet.stream_index
            if packet.pts is not None:
                time_s = float(packet.pts * packet.time_base) - self._zero_s
                due_s = ends_s.get(index, 0.0 if self._is_renumbered() else time_s)
                if is_whole and is_counted(self._format, time_s < due_s):
                    time_s = due_s
                ends_s[index] = max(due_s, time_s + packet_length_s(self._format, packet))
            elif packet.size and packet.stream.type == "video":  # bare frames have no time stamps
                ends_s[index] = ends_s.get(index, 0.0) + float(1 / (packet.stream.guessed_rate or 25))
        self._reopen()
        return ends_s if ends_s or is_whole else self._packet_ends(-inf)

    def _timed_out(self) -> MediaError:
        return MediaError(self._path, TIMED_OUT, f"not done after {self._timeout_s:g} s")


def length_s(stream: Any, frame: Any) -> float:
    """How long a decoded frame lasts."""
    if stream.type == "audio":
        return float(frame.samples / frame.sample_rate)
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / (stream.guessed_rate or 25))
