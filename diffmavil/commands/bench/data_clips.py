"""Clips to measure reading with: as costly to decode as footage from the web, and made anywhere in a minute."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, FPS, CLIP_S, SAMPLE_RATE_HZ = 640, 360, 30, 10, 44100


def make_footage(path: Path, seed: int) -> None:
    """Write 10 s of H.264, 640x360 at 30 frames a second with x264's own settings, and of stereo AAC at 44.1 kHz.

    A camera wanders over a picture with the spectrum of natural images, 1/f, which changes now and then; there is grain
    on it, as from a sensor.

    Args:
        path: File to write.
        seed: Seed of all that is drawn.
    """
    random = np.random.default_rng(seed)
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {"crf": "23"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="stereo", format="fltp")
        audio.bit_rate = 128000
        number = 0
        for frames in np.diff([0, *sorted(random.integers(1, FPS * CLIP_S, random.integers(0, 3))), FPS * CLIP_S]):
            for picture in _scene(random, int(frames)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(video.encode(frame.reformat(format="yuv420p")))
                number += 1
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(_sound(random), format="fltp", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def _coloured(random: np.random.Generator, shape: tuple[int, ...], axes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Noise whose amplitude falls with frequency as 1/f; mean 0, standard deviation 1."""
    spectrum = np.fft.fftn(random.standard_normal(shape), axes=axes)
    grids = np.meshgrid(*(np.fft.fftfreq(shape[axis]) for axis in axes), indexing="ij")
    frequency = np.sqrt(sum(grid**2 for grid in grids))
    frequency.flat[0] = np.inf
    frequency = np.expand_dims(frequency, [axis for axis in range(len(shape)) if axis not in axes])
    noise = np.fft.ifftn(spectrum / frequency, axes=axes).real
    scaled: npt.NDArray[np.float64] = noise / noise.std()
    return scaled


def _scene(random: np.random.Generator, frames: int) -> list[npt.NDArray[np.uint8]]:
    margin = 160
    picture = 128 + 40 * _coloured(random, (HEIGHT + 2 * margin, WIDTH + 2 * margin, 3), (0, 1))
    path = np.cumsum(random.normal(0, 0.3, (2, frames)), axis=1).cumsum(axis=1) * 0.1
    top, left = np.clip(margin + path, 0, 2 * margin - 1).astype(int)
    grain = random.normal(0, 1.5, (8, HEIGHT, WIDTH, 1))
    return [
        (picture[top[k] : top[k] + HEIGHT, left[k] : left[k] + WIDTH] + grain[random.integers(8)])
        .clip(0, 255)
        .astype(np.uint8)
        for k in range(frames)
    ]


def _sound(random: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = 0.1 * _coloured(random, (2, CLIP_S * SAMPLE_RATE_HZ), (1,))
    return noise.clip(-1, 1).astype(np.float32)
