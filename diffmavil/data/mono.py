"""Decoded sound of any rate and number of channels as a window of 16-bit mono."""

from __future__ import annotations

from math import ceil, gcd
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

_MARGIN: Final = 64
"""Samples on either side of a window that the resampling filter may look at."""

_JITTER_S: Final = 0.03
"""Time stamps that are off by less continue the sound before them."""


class Mono:
    """A window of the mean of the channels, resampled.

    Sample n is the sound at n / ``sample_rate_hz``, wherever the window begins: two windows agree where they overlap.
    FFmpeg's own mix of floating-point stereo to mono is sqrt(2) times the mean; this one is the mean.

    Args:
        sample_rate_hz: Wanted sample rate.
        first: Position of the window's first sample.
        count: Its number of samples.
    """

    def __init__(self, sample_rate_hz: int, first: int, count: int) -> None:
        self._wanted_rate = sample_rate_hz
        self._first, self._count = first, count
        self._rate = 0
        self._end: int | None = None
        self._pieces: list[tuple[int, npt.NDArray[np.float32]]] = []

    @property
    def end_s(self) -> float | None:
        """Where the sound that was taken in ends; ``None`` before the first frame."""
        return None if self._end is None else self._end / self._rate

    @property
    def stop_s(self) -> float:
        """Sound from here on is not needed."""
        return (self._first + self._count + _MARGIN) / self._wanted_rate

    def push(self, time_s: float, frame: Any) -> None:
        """Take in a decoded frame; in ascending order, and all of one sample rate."""
        self._rate = frame.sample_rate
        samples, at = _mean(frame), round(time_s * self._rate)
        if self._end is not None:
            if abs(at - self._end) < _JITTER_S * self._rate:
                at = self._end
            samples, at = samples[max(0, self._end - at) :], max(at, self._end)
        self._end = at + len(samples)
        if self._end > self._block() * self._rate // self._blocks_per_s():
            self._pieces.append((at, samples))

    def window(self) -> npt.NDArray[np.int16]:
        """The window, or less where the sound ends in it; zeros where there was none."""
        if self._end is None:
            return np.zeros(0, np.int16)
        step, wanted_step = self._rate // self._blocks_per_s(), self._wanted_rate // self._blocks_per_s()
        begin, skipped = self._block() * step, self._first - self._block() * wanted_step
        stop = min(self._end, ceil(self.stop_s * self._rate))
        line = np.zeros(max(0, stop - begin) + ceil(_MARGIN * max(1.0, step / wanted_step)), np.float32)
        for at, samples in self._pieces:
            samples = samples[max(0, begin - at) : max(0, stop - at)]
            line[max(0, at - begin) :][: len(samples)] = samples
        count = min(self._count, ceil(self._end * wanted_step / step) - self._first)
        return _resample(line, self._rate, self._wanted_rate)[skipped:][: max(0, count)]

    def _blocks_per_s(self) -> int:
        """How often in a second samples of both rates coincide; the filter's phases repeat with it."""
        return gcd(self._rate, self._wanted_rate)

    def _block(self) -> int:
        """Where the resampling begins: a coincidence before the window."""
        return (self._first - _MARGIN) * self._blocks_per_s() // self._wanted_rate


def _mean(frame: Any) -> npt.NDArray[np.float32]:
    """Mean of a frame's channels, of shape (samples,), between -1 and 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mean: npt.NDArray[np.float32] = samples.mean(axis=0, dtype=np.float32)
    if samples.dtype.kind == "u":
        return mean / np.float32(128) - np.float32(1)
    return mean if samples.dtype.kind == "f" else mean / np.float32(-int(np.iinfo(samples.dtype).min))


def _resample(samples: npt.NDArray[np.float32], rate: int, wanted_rate: int) -> npt.NDArray[np.int16]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=wanted_rate)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return np.concatenate([part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))])
