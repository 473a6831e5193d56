"""What can be wrong with a media file: a fixed list of reasons, so that they can be counted."""

from __future__ import annotations

from typing import Final

MISSING_FILE: Final = "missing file"
CANNOT_OPEN: Final = "cannot be opened"
EMPTY_FILE: Final = "empty file"
NOT_MEDIA: Final = "not a media file"
NO_AUDIO: Final = "no audio track"
NO_VIDEO: Final = "no video track"
CANNOT_DECODE: Final = "cannot be decoded"
TOO_SHORT: Final = "too short"
TOO_LONG: Final = "too long"
TOO_LARGE: Final = "too large"
SILENT: Final = "silent"
STILL: Final = "still picture"
APART: Final = "sound and picture apart"
TIMED_OUT: Final = "timed out"
CRASHED: Final = "crashed the decoder"

REASONS: Final = (
    MISSING_FILE,
    CANNOT_OPEN,
    EMPTY_FILE,
    NOT_MEDIA,
    NO_AUDIO,
    NO_VIDEO,
    CANNOT_DECODE,
    TOO_SHORT,
    TOO_LONG,
    TOO_LARGE,
    SILENT,
    STILL,
    APART,
    TIMED_OUT,
    CRASHED,
)
"""Every reason for which a clip is skipped or rejected."""


class OneStreamError(ValueError):
    """None of a data set's clips can be read: they lack audio or video.

    Args:
        what: What happened, in one line.
        stream: The stream that the first clip has.
    """

    def __init__(self, what: str, stream: str) -> None:
        super().__init__(what, stream)
        self.what, self.stream = what, stream

    def __str__(self) -> str:
        return f"{self.what}; to read {self.stream} alone, set data.modalities to {self.stream}"


class MediaError(ValueError):
    """A media file that cannot be used.

    Args:
        path: The file.
        reason: One of ``REASONS``.
        detail: What the reader said, in one line; may be empty.
    """

    def __init__(self, path: str, reason: str, detail: str = "") -> None:
        super().__init__(path, reason, detail)
        self.path = path
        self.reason = reason
        self.detail = " ".join(detail.split())

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (f" ({self.detail})" if self.detail else "")
