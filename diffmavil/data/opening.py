"""Opening media files with PyAV.

Nothing here trusts a file: formats that refer to other files are not opened, and frames have a largest size.
"""

from __future__ import annotations

import os
from typing import Any, Final

import av
from av.error import ExitError
from av.stream import Disposition

from diffmavil.data.errors import CANNOT_DECODE, CANNOT_OPEN, EMPTY_FILE, MISSING_FILE, NOT_MEDIA, MediaError
from diffmavil.data.missing import missing_hint

MAX_SIDE_PX: Final = 8192
"""Frames with a longer side are not decoded, nor any with more pixels than its square."""

_FORMATS: Final = """
    aac ac3 aiff amr amrnb amrwb ape asf au avi caf dts dtshd dv eac3 flac flv h264 hevc ivf loas m4v matroska mov mp3
    mpeg mpegts mpegvideo mxf nistsphere nut obu ogg rm tta w64 wav wv
"""
"""FFmpeg's names of audio and video. Left out are stills, text, play lists and whatever else refers to other files."""

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


def read_head(path: str) -> bytes:
    """The first bytes of a file.

    Raises:
        MediaError: If there is no such file, or nothing in it.
    """
    if not os.path.isfile(path):
        raise MediaError(path, MISSING_FILE, missing_hint(path))
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError(path, CANNOT_OPEN, error.strerror or "") from error
    if not head:
        raise MediaError(path, EMPTY_FILE)
    return head


def open_file(path: str, head: bytes, timeout_s: float) -> Any:
    """Open a file.

    Args:
        path: The file.
        head: Its first bytes.
        timeout_s: Seconds for each single read.

    Raises:
        MediaError: If it is no media file, or a broken one.
        ExitError: After ``timeout_s``.
    """
    try:
        return av.open(f"file:{path}", options=_OPTIONS, timeout=timeout_s, metadata_errors="replace")
    except ExitError:
        raise
    except av.FFmpegError as error:
        is_media = any(head.startswith(mark, at) for at, mark in _SIGNATURES)
        raise MediaError(path, CANNOT_DECODE if is_media else NOT_MEDIA, error.strerror or "") from error


def first_streams(container: Any) -> tuple[Any, Any]:
    """The first stream of audio and the first one of video that can be decoded, or ``None``; cover art is none."""
    streams = container.streams
    audio = next((s for s in streams.audio if s.codec_context is not None), None)
    video = next((s for s in streams.video if _is_video(s)), None)
    for stream in (audio, video):
        if stream is not None:
            stream.codec_context.thread_type = "NONE"  # more threads only get in the way of other workers
            stream.codec_context.options = _DECODER_OPTIONS
    return audio, video


def _is_video(stream: Any) -> bool:
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.codec_context is not None and not stream.disposition & cover
