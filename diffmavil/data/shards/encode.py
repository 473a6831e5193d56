"""Reading a clip once, checking it, and making the members of a shard of it."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from math import ceil, inf
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torchvision.io import encode_jpeg

from diffmavil.data.audit import Audit
from diffmavil.data.clips import Clip
from diffmavil.data.errors import TOO_LARGE, MediaError
from diffmavil.data.media import Media, Span
from diffmavil.data.shards.layout import MAX_CLIP_BYTES, Stored
from diffmavil.types import Modalities

_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """The members of a shard that one clip becomes.

    Args:
        about: What the clip is: the fields of ``Clip``, its length, and its spans in seconds from the file's start.
        flac: Its sound; empty without.
        jpegs: Its pictures; none without.
    """

    about: dict[str, Any]
    flac: bytes
    jpegs: list[bytes]

    @property
    def json(self) -> bytes:
        """``about``, as a member."""
        return json.dumps(self.about).encode()


def encode_clip(clip: Clip, media: Media, modalities: Modalities, stored: Stored, audit: Audit) -> EncodedClip:
    """Read a clip, check it and encode it.

    Args:
        clip: The clip.
        media: It, open.
        modalities: The streams that are wanted.
        stored: How they are stored.
        audit: What is checked.

    Raises:
        MediaError: If the clip cannot be read or does not pass.
    """
    start_s, end_s = clip.start_s or 0.0, inf if clip.end_s is None else clip.end_s
    in_file: dict[str, Span | None] = {}
    if modalities != "video":
        in_file["audio"] = _within(media.info.audio_s, start_s, end_s)
    if modalities != "audio":
        in_file["video"] = _within(media.info.shown_s, start_s, end_s)
    spans = {kind: None if span is None else (span[0] - start_s, span[1] - start_s) for kind, span in in_file.items()}
    audit.check_spans(clip.path, spans)
    audit.check_segment(clip.path, end_s - start_s, min(span[1] for span in spans.values() if span is not None))
    flac, jpegs = b"", []
    if audio_s := spans.get("audio"):
        samples = media.audio(start_s, audio_s[1], stored.sample_rate_hz)
        audit.check_sound(clip.path, samples)
        flac = _flac(samples, stored.sample_rate_hz)
    if video_s := spans.get("video"):
        count = max(1, ceil(video_s[1] * stored.fps - _ROUNDING))
        jpegs = _jpegs(clip.path, media, [start_s + k / stored.fps for k in range(count)], stored, audit)
    if (size := len(flac) + sum(map(len, jpegs))) > MAX_CLIP_BYTES // 2:  # headers and padding come to it
        raise MediaError(clip.path, TOO_LARGE, f"{size} bytes")
    if (audio_s := spans.get("audio")) and (film_s := _within(media.info.video_s, start_s, end_s)) and jpegs:
        # last: a file of one picture is still, rather than apart
        audit.check_together(clip.path, [audio_s, (film_s[0] - start_s, film_s[1] - start_s)])
    about = {
        **asdict(clip),
        "duration_s": max(span[1] for span in spans.values() if span is not None),
        "audio_s": in_file.get("audio"),
        "video_s": in_file.get("video"),
        "sample_rate_hz": stored.sample_rate_hz if flac else None,
        "fps": stored.fps if jpegs else None,
    }
    del about["row"]
    return EncodedClip(about, flac, jpegs)


def _within(span_s: Span | None, start_s: float, end_s: float) -> Span | None:
    """The part of a stream that is in the clip; times as the file has them, so that its windows stay the same."""
    if span_s is None:
        return None
    end_s = max(start_s, min(span_s[1], end_s))
    return min(max(start_s, span_s[0]), end_s), end_s


def _flac(samples: npt.NDArray[np.int16], sample_rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _jpegs(path: str, media: Media, times_s: list[float], stored: Stored, audit: Audit) -> list[bytes]:
    jpegs: list[bytes] = []
    first: npt.NDArray[np.uint8] | None = None
    moved = False
    for picture in media.frames(times_s, stored.short_side):
        first = picture if first is None else first
        moved = moved or audit.moves(first, picture)
        jpegs.append(encode_jpeg(torch.from_numpy(picture).permute(2, 0, 1), stored.quality).numpy().tobytes())
    audit.check_moved(path, moved, len(times_s))
    return jpegs
