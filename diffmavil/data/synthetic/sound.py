"""The timbres that all kinds of event share, and the room and microphone through which every clip is heard.

Whatever strikes is a ``Strike``, whatever sings is a ``Voice`` and whatever rushes is a ``Hiss``, drawn from
ranges that overlap from kind to kind, so that it is the course of a sound in time that gives its kind away,
rather than its average spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float64]
"""A track of sound, (S,), or a value for each of its samples."""

PITCH_HZ = (300.0, 1000.0)
"""Range of the fundamental of strikes and voices, before their register."""


def pitch_of_size(rng: np.random.Generator, size: float, *, register: float) -> float:
    """Pitch of a thing by its size: large is low, give or take a third.

    Args:
        rng: Source of chance.
        size: Size within its range, in [0, 1].
        register: How much higher than others things of this kind sound, in octaves.

    Returns:
        A frequency in Hz.
    """
    low, high = PITCH_HZ
    return float(high * (low / high) ** size * 2.0 ** (register + rng.uniform(-0.25, 0.25)))


@dataclass(frozen=True)
class Strike:
    """A struck body: a few modes that ring down, and the noise of the contact.

    Args:
        pitch_hz: Frequency of the lowest mode.
        ratios: Frequency of each mode over the lowest.
        gains: Amplitude of each mode.
        decay_s: Time in which the lowest mode falls to 1/e.
        click: Amplitude of the contact noise over that of the lowest mode.
    """

    pitch_hz: float
    ratios: Wave
    gains: Wave
    decay_s: float
    click: float

    @classmethod
    def draw(cls, rng: np.random.Generator, pitch_hz: float, *, decay_s: float) -> Strike:
        """Draw a body at random, with the given lowest mode and about the given decay."""
        modes = int(rng.integers(2, 6))
        ratios = np.cumprod(np.append(1.0, rng.uniform(1.3, 2.1, modes - 1)))
        gains = np.append(1.0, rng.uniform(0.2, 0.9, modes - 1))
        return cls(pitch_hz, ratios, gains, decay_s * 2.0 ** rng.uniform(-1.0, 1.0), rng.uniform(0.0, 0.8))

    def kernel(self, rng: np.random.Generator, sample_rate_hz: int, *, bend: float = 1.0) -> Wave:
        """Sound of one strike.

        Args:
            rng: Source of the contact noise.
            sample_rate_hz: Samples a second.
            bend: Factor on every frequency.
        """
        t = np.arange(int(5.0 * self.decay_s * sample_rate_hz)) / sample_rate_hz
        ratios, gains = self.ratios[:, None], self.gains[:, None]
        hertz = ratios * self.pitch_hz * bend
        gains = gains * (hertz < 0.45 * sample_rate_hz)
        ring = (gains * np.exp(-t * np.sqrt(ratios) / self.decay_s) * np.sin(2.0 * np.pi * hertz * t)).sum(0)
        return np.asarray(ring + self.click * np.exp(-t / 0.006) * rng.standard_normal(t.size))


@dataclass(frozen=True)
class Voice:
    """A harmonic tone.

    Args:
        harmonics: Amplitude of each harmonic.
        breath: Amplitude of the noise that goes with the tone.
    """

    harmonics: Wave
    breath: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Voice:
        """Draw a tone colour at random."""
        order = np.arange(1.0, 7.0)
        return cls(order ** -rng.uniform(0.6, 3.0) * rng.uniform(0.3, 1.0, order.size), rng.uniform(0.0, 0.15))

    def sing(self, rng: np.random.Generator, frequency_hz: Wave, sample_rate_hz: int) -> Wave:
        """Sound at a frequency that may change from sample to sample."""
        phase = 2.0 * np.pi * np.cumsum(frequency_hz) / sample_rate_hz
        tone = self.breath * rng.standard_normal(phase.size)
        below, current, double_cosine = np.zeros(phase.size), np.sin(phase), 2.0 * np.cos(phase)
        for order, gain in enumerate(self.harmonics, start=1):
            tone += gain * (order * frequency_hz < 0.45 * sample_rate_hz) * current
            below, current = (
                current,
                double_cosine * current - below,
            )  # sin((k + 1) x) from sin(k x) and sin((k - 1) x)
        return np.asarray(tone / np.sqrt(np.sum(self.harmonics**2)))


@dataclass(frozen=True)
class Hiss:
    """A band of noise.

    Args:
        centre_hz: Middle of the band.
        width_octaves: Standard deviation of the band.
    """

    centre_hz: float
    width_octaves: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, register: float) -> Hiss:
        """Draw a band at random, within an octave and a quarter of the register (octaves above 1 kHz)."""
        return cls(1000.0 * 2.0 ** (register + rng.uniform(-1.25, 1.25)), rng.uniform(0.3, 0.9))

    def blow(self, rng: np.random.Generator, num_samples: int, sample_rate_hz: int, *, bend: float = 1.0) -> Wave:
        """Steady noise of unit power, its band moved by the factor ``bend``."""
        octaves = np.log2(_frequencies_hz(num_samples, sample_rate_hz) / (self.centre_hz * bend))
        return _unit_power(_shape(rng.standard_normal(num_samples), np.exp(-0.5 * (octaves / self.width_octaves) ** 2)))


def lay(track: Wave, kernel: Wave, time_s: float, gain: float, sample_rate_hz: int) -> None:
    """Add a short sound to a track from a time on, in place; what falls outside the track is cut off."""
    start = round(time_s * sample_rate_hz)
    stop = min(track.size, start + kernel.size)
    if stop > max(start, 0):
        track[max(start, 0) : stop] += gain * kernel[max(-start, 0) : stop - start]


def decays(times_s: Wave, onsets_s: Wave, decay_s: float) -> Wave:
    """Envelope that jumps to 1 at each onset and rings down until the next."""
    last = np.searchsorted(onsets_s, times_s, side="right") - 1
    since = times_s - onsets_s[np.maximum(last, 0)]
    return np.where(last >= 0, np.exp(-np.maximum(since, 0.0) / decay_s), 0.0)


def record(rng: np.random.Generator, event: Wave, sample_rate_hz: int, *, snr_db: float, loudness_dbfs: float) -> Wave:
    """Hear an event in a room with other noise, through a microphone that colours it.

    Args:
        rng: Source of chance for the room, the noise, the hum and the colour.
        event: The event alone.
        sample_rate_hz: Samples a second.
        snr_db: Power of the event where it is loud (its loudest tenth) over that of the noise.
        loudness_dbfs: Root mean square of the result, in dB below full scale; less where peaks would clip.

    Returns:
        Samples in (-1, 1).
    """
    num_samples = event.size
    seconds = np.arange(num_samples) / sample_rate_hz
    tilt, rumble = rng.uniform(-2.5, 2.5) / 6.02, rng.uniform(0.0, 0.9)

    tail_s = seconds[: sample_rate_hz // 4]
    echo = rng.standard_normal(tail_s.size) * np.exp(-tail_s / np.exp(rng.uniform(np.log(0.02), np.log(0.1))))
    echo *= rng.uniform(0.0, 0.5) / np.sqrt(np.sum(echo**2))
    echo[0] += 1.0
    size = num_samples + echo.size
    response = np.fft.rfft(echo, size) * (_frequencies_hz(size, sample_rate_hz) / 1000.0) ** tilt
    heard = np.fft.irfft(np.fft.rfft(event, size) * response, size)[:num_samples]
    blocks = heard[: num_samples // 400 * 400].reshape(-1, 400)
    heard /= np.sqrt(np.quantile(np.mean(blocks**2, axis=1), 0.9) + 1e-12)

    colour = (_frequencies_hz(num_samples, sample_rate_hz) / 1000.0) ** (tilt - rumble)
    noise = _unit_power(_shape(rng.standard_normal(num_samples), colour))
    noise *= 1.0 + rng.uniform(0.0, 0.6) * np.sin(2.0 * np.pi * (rng.uniform(0.1, 4.0) * seconds + rng.random()))
    hum_hz = np.exp(rng.uniform(np.log(120.0), np.log(3000.0)))
    noise += rng.uniform(0.0, 0.5) * np.sin(2.0 * np.pi * hum_hz * seconds)

    mixed = heard + 10.0 ** (-snr_db / 20.0) * noise
    loudness = 10.0 ** (loudness_dbfs / 20.0) / np.sqrt(np.mean(mixed**2))
    return np.asarray(mixed * min(loudness, 0.97 / np.max(np.abs(mixed))))


def _frequencies_hz(num_samples: int, sample_rate_hz: int) -> Wave:
    return np.asarray(np.maximum(np.fft.rfftfreq(num_samples, 1.0 / sample_rate_hz), 20.0))


def _shape(wave: Wave, response: Wave) -> Wave:
    return np.asarray(np.fft.irfft(np.fft.rfft(wave) * response, wave.size))


def _unit_power(wave: Wave) -> Wave:
    return np.asarray(wave / np.sqrt(np.mean(wave**2)))
