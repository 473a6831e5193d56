"""Media files with known content, written with PyAV for the tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from diffmavil.data.decode import MediaFile
from diffmavil.data.media import Media, MediaInfo

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

GREY_STEP = 3
GREY_FIRST = 20


def counter_frame(k: int, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """A picture whose grey level tells its number, up to 70."""
    return np.full((height, width, 3), GREY_FIRST + GREY_STEP * k, np.uint8)


def counter_of(picture: npt.NDArray[np.uint8]) -> int:
    """The number of a ``counter_frame``."""
    return round((float(picture.mean()) - GREY_FIRST) / GREY_STEP)


def moving_frames(count: int, seed: int = 0, width: int = 320, height: int = 240) -> list[npt.NDArray[np.uint8]]:
    """Smooth pictures that change, as films do."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = np.random.default_rng(seed).uniform(0.01, 0.08, (3, 2))
    return [
        np.stack([127 + 100 * np.sin(a * x + b * y + k / 5) for a, b in waves], -1).astype(np.uint8)
        for k in range(count)
    ]


def tone(seconds: float, hz: float = 440.0, rate: int = 16000, amplitude: float = 0.5) -> npt.NDArray[np.float32]:
    """One channel of a sine, of shape (1, samples)."""
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate))[None].astype(np.float32)


def write_media(
    path: Path,
    *,
    frames: list[npt.NDArray[np.uint8]] | None = None,
    fps: int = 10,
    sound: npt.NDArray[np.float32] | None = None,
    rate: int = 16000,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    sound_at_s: float = 0.0,
    frames_at_s: float = 0.0,
    gop: int = 12,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write pictures (T of shape (H, W, 3)) and sound (channels, samples), either of which may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        video = audio = None
        if frames is not None:
            video = container.add_stream(video_codec, rate=fps)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
            video.gop_size = gop
            video.codec_context.time_base = Fraction(1, fps)
            video.codec_context.options = {"crf": "10"} if video_codec == "libx264" else {}
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        if video is not None and frames is not None:
            for k, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = k + round(frames_at_s * fps), Fraction(1, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None and sound is not None:
            block = 1024
            for begin in range(0, sound.shape[1], block):
                piece = np.ascontiguousarray(sound[:, begin : begin + block])
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = begin + round(sound_at_s * rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def write_clip(path: Path, *, seconds: float = 1.0, hz: float = 440.0, size: tuple[int, int] = (64, 48)) -> Path:
    """A clip with a frame counter at 10 pictures a second and a tone."""
    frames = [counter_frame(k, *size) for k in range(round(seconds * 10))]
    return write_media(path, frames=frames, sound=tone(seconds, hz))


CONTAINERS: dict[str, dict[str, Any]] = {
    "webm": {"video_codec": "libvpx", "audio_codec": "libopus", "rate": 48000},
    "mkv": {},
    "mp4": {},
    "ts": {},
    "flv": {"rate": 44100},
    "opus": {"audio_codec": "libopus", "rate": 48000, "frames": None},
    "mpg": {"video_codec": "mpeg1video", "audio_codec": "mp2", "rate": 44100, "fps": 25},
    "avi": {"video_codec": "mpeg4", "audio_codec": "mp3", "rate": 44100},
    "asf": {"video_codec": "wmv2", "audio_codec": "mp3", "rate": 44100},
}
"""Endings, and what to give to :func:`write_media` for them."""


def counted_clip(folder: Path, kind: str, seconds: float, *, repeat: int = 1) -> Path:
    """A tone under a counter, which goes on every ``repeat`` frames of 25 a second; made once in a folder."""
    path = folder / f"given.{kind}"
    if not path.exists():
        frames = [counter_frame(k // repeat) for k in range(round(25 * seconds))]
        settings: dict[str, Any] = {"frames": frames, "fps": 25, **CONTAINERS[kind]}
        write_media(path, sound=tone(seconds, 440.0, settings.get("rate", 16000)), **settings)
    return path


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """What a media file says about itself."""
    with MediaFile(path) as media:
        return media.info


def decode_audio(
    path: str | os.PathLike[str], start_s: float, duration_s: float, sample_rate_hz: int
) -> npt.NDArray[np.int16]:
    """Decode a window of a file's sound; see ``MediaFile.audio``."""
    with MediaFile(path) as media:
        return media.audio(start_s, duration_s, sample_rate_hz)


def frames_of(media: Media, times_s: Sequence[float], short_side: int | None = None) -> npt.NDArray[np.uint8]:
    """Decode the pictures that are shown at some instants, of shape (T, H, W, 3)."""
    return np.stack(list(media.frames(times_s, short_side)))


def decode_frames(path: str | os.PathLike[str], times_s: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Decode the pictures that a file shows at some instants; see ``MediaFile.frames``."""
    with MediaFile(path) as media:
        return frames_of(media, times_s)
