"""One whole clip: an event of some kind, its surroundings, and the noise it is heard in."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, UInt8
from numpy.typing import NDArray

from diffmavil.checks import check_number
from diffmavil.data.synthetic.canvas import Canvas, Colour
from diffmavil.data.synthetic.impacts import bouncing_ball, engine, pendulum, rain
from diffmavil.data.synthetic.noises import saw, wind
from diffmavil.data.synthetic.sound import record
from diffmavil.data.synthetic.stage import Event, Stage
from diffmavil.data.synthetic.tones import bird, lighthouse, siren, string

KINDS: dict[str, Callable[[Stage], Event]] = {
    "bird": bird,
    "bouncing_ball": bouncing_ball,
    "engine": engine,
    "lighthouse": lighthouse,
    "pendulum": pendulum,
    "rain": rain,
    "saw": saw,
    "siren": siren,
    "string": string,
    "wind": wind,
}
"""The ten kinds of event, by label."""


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """Size and rates of the clips of a data set.

    Args:
        clip_s: Length of each clip in seconds.
        size_px: Width and height of the picture, an even number.
        fps: Frames a second.
        sample_rate_hz: Samples of sound a second.
    """

    clip_s: float = 3.0
    size_px: int = 112
    fps: int = 16
    sample_rate_hz: int = 16000

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn, heard or encoded.

        Raises:
            ValueError: If a value is outside its range.
        """
        check_number("clip_s", self.clip_s, at_least=1, at_most=60)
        check_number("size_px", self.size_px, at_least=32, at_most=1024)
        if self.size_px % 2:
            raise ValueError(f"size_px must be even and in [32, 1024], got {self.size_px}")
        check_number("fps", self.fps, at_least=4, at_most=60)
        if self.sample_rate_hz not in (8000, 16000, 22050, 24000, 32000, 44100, 48000):
            raise ValueError(f"sample_rate_hz must be a rate of AAC from 8000 to 48000, got {self.sample_rate_hz}")


@dataclass(frozen=True)
class MadeClip:
    """A clip before it is encoded, and the facts it was made from.

    Args:
        frames: Pictures, RGB, 8 bit.
        waveform: Mono sound, 16 bit.
        label: Kind of event, a key of ``KINDS``.
        event: Times, rate and pitch of the event.
        scale: Half the size of the event's scene, as a fraction of the picture.
        snr_db: Event over noise.
        loudness_dbfs: Loudness that was aimed at.
    """

    frames: UInt8[np.ndarray, "T H W C"]
    waveform: Int16[np.ndarray, " S"]
    label: str
    event: Event
    scale: float
    snr_db: float
    loudness_dbfs: float


def label_of(index: int) -> str:
    """Kind of event of a clip: the kinds take turns, so that they are equally many."""
    return list(KINDS)[index % len(KINDS)]


def split_of(index: int) -> str:
    """Split of a clip: of each kind every fourth clip is for testing, the others for training."""
    return "test" if index // len(KINDS) % 4 == 1 else "train"


def make_clip(seed: int, index: int, clip_format: ClipFormat) -> MadeClip:
    """Draw one clip; a pure function of its arguments.

    Args:
        seed: Seed of the data set.
        index: Position of the clip in the data set; its kind is ``label_of(index)``.
        clip_format: Length, size and rates.

    Returns:
        Pictures, sound and what they were made from.
    """
    rng = np.random.default_rng([seed, index])
    num_frames = round(clip_format.clip_s * clip_format.fps)
    num_samples = round(clip_format.clip_s * clip_format.sample_rate_hz)
    dark = bool(rng.random() < 0.5)
    canvas = Canvas(background=_background(rng, clip_format.size_px, dark), num_frames=num_frames)
    stage = Stage(
        rng=rng,
        canvas=canvas,
        inks=(_ink(rng, dark), _detail_ink(rng, dark), _ink(rng, dark)),
        light=colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.3), 1.0),
        frame_s=np.arange(num_frames) / clip_format.fps,
        sample_s=np.arange(num_samples) / clip_format.sample_rate_hz,
        sample_rate_hz=clip_format.sample_rate_hz,
    )
    _passers_by(stage, dark)
    scale = rng.uniform(0.3, 0.47)
    centre_x, centre_y = rng.uniform(scale, 1.0 - scale, 2)
    canvas.place(centre_x=centre_x, centre_y=centre_y, scale=scale, mirrored=bool(rng.random() < 0.5))
    label = label_of(index)
    event = KINDS[label](stage)
    snr_db, loudness_dbfs = rng.uniform(10.0, 30.0), rng.uniform(-34.0, -16.0)
    heard = record(rng, event.sound, clip_format.sample_rate_hz, snr_db=snr_db, loudness_dbfs=loudness_dbfs)
    return MadeClip(
        frames=canvas.frames(),
        waveform=np.rint(heard * 32767.0).astype(np.int16),
        label=label,
        event=event,
        scale=scale,
        snr_db=snr_db,
        loudness_dbfs=loudness_dbfs,
    )


def _background(rng: np.random.Generator, size_px: int, dark: bool) -> NDArray[np.float32]:
    """A gradient between two colours with a soft texture on it, (3, H, W)."""
    values = (0.05, 0.3) if dark else (0.5, 0.7)
    colours = [colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(*values)) for _ in range(2)]
    first, second = np.array(colours)[:, :, None, None]
    turn = rng.uniform(0.0, 2.0 * np.pi)
    y, x = np.mgrid[0:size_px, 0:size_px] / size_px - 0.5
    share = np.clip(0.5 + 0.7 * (x * np.cos(turn) + y * np.sin(turn)), 0.0, 1.0)
    texture = np.zeros((size_px, size_px))
    for across, down, phase in zip(rng.uniform(-9.0, 9.0, 4), rng.uniform(-9.0, 9.0, 4), rng.random(4), strict=True):
        texture += np.sin(2.0 * np.pi * (across * x + down * y + phase))
    picture = first + share * (second - first) + rng.uniform(0.0, 0.03) * texture
    return np.asarray(np.clip(picture, 0.0, 1.0), np.float32)


def _ink(rng: np.random.Generator, light: bool) -> Colour:
    """A colour of any hue, light or dark."""
    saturations, values = ((0.1, 0.6), (0.7, 1.0)) if light else ((0.3, 0.9), (0.0, 0.25))
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturations), rng.uniform(*values))


def _detail_ink(rng: np.random.Generator, dark: bool) -> Colour:
    """A colour that stands out from the background and from the other inks."""
    saturations, values = ((0.5, 0.9), (0.55, 0.7)) if dark else ((0.0, 0.25), (0.9, 1.0))
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturations), rng.uniform(*values))


def _passers_by(stage: Stage, dark: bool) -> None:
    """Draw up to three small things that move silently behind the event."""
    rng, canvas = stage.rng, stage.canvas
    for _ in range(int(rng.integers(0, 4))):
        rate_hz, phases = rng.uniform(0.1, 0.8), rng.random(2)
        u, v = (
            rng.uniform(-0.9, 0.9) + rng.uniform(0.0, 0.5) * np.sin(2.0 * np.pi * (rate_hz * stage.frame_s + phase))
            for phase in phases
        )
        half, ink = rng.uniform(0.05, 0.15), _ink(rng, dark)
        shape = int(rng.integers(3))
        if shape == 0:
            canvas.disc(u, v, half, half, ink, opacity=0.7)
        elif shape == 1:
            canvas.box(u, v, half, half * rng.uniform(0.4, 1.0), ink, opacity=0.7)
        else:
            canvas.line(u - half, v - half, u + half, v + half, half * 0.7, ink, opacity=0.7)
