"""What a kind of event is given to play itself on, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffmavil.data.synthetic.canvas import Canvas, Colour
from diffmavil.data.synthetic.sound import Wave


@dataclass(frozen=True)
class Stage:
    """Canvas, clocks and chance of one clip.

    Args:
        rng: Source of every random choice of the clip.
        canvas: Where the event is drawn, in a scene of about -1 to 1.
        inks: Three colours that stand out from the background.
        light: Colour of whatever shines.
        frame_s: Time of each frame, in seconds, (T,).
        sample_s: Time of each sample of sound, in seconds, (S,).
        sample_rate_hz: Samples a second.
    """

    rng: np.random.Generator
    canvas: Canvas
    inks: tuple[Colour, Colour, Colour]
    light: Colour
    frame_s: Wave
    sample_s: Wave
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length of the clip in seconds."""
        return self.sample_s.size / self.sample_rate_hz

    def silence(self) -> Wave:
        """A track of zeros, as long as the clip."""
        return np.zeros(self.sample_s.size)


@dataclass(frozen=True)
class Event:
    """What an event sounds like, and the facts behind it.

    Args:
        sound: The event alone, at any level, (S,).
        onsets_s: Times of its separate sounds, in seconds, rising; empty when it sounds without a break.
        rate_hz: How often it repeats, a second.
        pitch_hz: Its fundamental, lowest mode or middle of its band.
    """

    sound: Wave
    onsets_s: tuple[float, ...]
    rate_hz: float
    pitch_hz: float
