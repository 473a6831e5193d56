"""Writing a clip as an .mp4 file, H.264 and AAC, with the PyAV that the clips are read with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Int16, UInt8

AUDIO_BITS_PER_S = 64000


def write_mp4(
    path: Path,
    *,
    frames: UInt8[np.ndarray, "T H W C"],
    fps: int,
    waveform: Int16[np.ndarray, " S"],
    sample_rate_hz: int,
) -> None:
    """Encode pictures and sound that begin at the same moment.

    The encoders run on one thread and no date goes into the file, so the same clip gives the same bytes.

    Args:
        path: File to write; one that exists is replaced.
        frames: Pictures, RGB, 8 bit, with even height and width.
        fps: Frames a second.
        waveform: Mono sound, 16 bit.
        sample_rate_hz: Samples a second.
    """
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {
            "preset": "veryfast",
            "crf": "23",
            "bf": "0",
            "g": str(fps),
            "x264-params": "rc-lookahead=0",
        }
        audio = container.add_stream("aac", rate=sample_rate_hz, layout="mono", format="fltp")
        audio.bit_rate = AUDIO_BITS_PER_S
        audio.options = {"aac_coder": "fast"}
        audio.codec_context.thread_count = 1
        reformatter = VideoReformatter()
        for number, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(video.encode(reformatter.reformat(picture, format="yuv420p", threads=1)))
        container.mux(video.encode(None))
        samples = (waveform.astype(np.float32) / 32768.0)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = sample_rate_hz, 0, Fraction(1, sample_rate_hz)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
