"""Decoded sound of any rate and number of channels as a window of mono, by FFmpeg's filters."""

from __future__ import annotations

from math import ceil, gcd
from typing import Any, Final

import av
import av.filter
import numpy as np
import numpy.typing as npt

_MARGIN: Final = 64
"""Samples on either side of a window that the resampling filter may look at."""

_JITTER_S: Final = 0.03
"""Time stamps that are off by less continue the sound before them."""


class Mono:
    """A window of the mean of the channels, resampled.

    Sample n is the sound at n / ``sample_rate_hz``, wherever the window begins: two windows agree where they overlap.

    Args:
        sample_rate_hz: Wanted sample rate.
        first: Position of the window's first sample.
        count: Its number of samples.
    """

    def __init__(self, sample_rate_hz: int, first: int, count: int) -> None:
        self._wanted_rate = sample_rate_hz
        self._first, self._count = first, count
        self._from_s = (first - _MARGIN) / sample_rate_hz
        self._rate = self._end = 0
        self._run: _Run | None = None
        self._done: list[tuple[int, npt.NDArray[np.float32]]] = []
        self.until_s = (first + count + _MARGIN) / sample_rate_hz
        self.end_s: float | None = None

    def push(self, time_s: float, frame: Any) -> None:
        """Take in a decoded frame; in ascending order. What overlaps the audio before it is left out."""
        if frame.sample_rate != self._rate:
            self._end = 0 if self._rate == 0 else round(self._end * frame.sample_rate / self._rate)
            self._rate = frame.sample_rate
        at = round(time_s * self._rate)
        goes_on = self.end_s is not None and abs(at - self._end) < _JITTER_S * self._rate
        at = self._end if goes_on else at
        heard_s = self.end_s
        self._end = at + frame.samples if heard_s is None else max(self._end, at + frame.samples)
        self.end_s = self._end / self._rate
        if self.end_s > self._from_s:
            if self._run is None or not (goes_on and self._run.takes(frame)):
                self._finish()
                self._run = _Run(at, frame, self._wanted_rate, heard_s)
            self._run.push(frame)

    def window(self) -> npt.NDArray[np.float32]:
        """The window, between -1 and 1, or less where the audio ends in it; zeros where there was none."""
        self._finish()
        end = 0 if self._rate == 0 else ceil(self._end * self._wanted_rate / self._rate)
        window = np.zeros(max(0, min(self._count, end - self._first)), np.float32)
        for at, samples in self._done:
            place = window[at:][: len(samples)]
            place += samples[: len(place)]
        return window

    def _finish(self) -> None:
        """Keep what the last run has in the window, and not its filters: a file may have a run for each frame."""
        if self._run is not None:
            at, samples = self._run.finish()
            samples = samples[max(0, self._first - at) :]
            at = max(0, at - self._first)
            self._done.append((at, samples[: max(0, self._count - at)]))
            self._run = None


class _Run:
    """Frames of one layout, format and rate, without a hole between them.

    The resampling filter's phases repeat where samples of both rates coincide. The run is made to begin at such a
    place, by silence before it. FFmpeg's own mix of floating-point stereo to mono is sqrt(2) times the mean; this one
    is the mean.
    """

    def __init__(self, at: int, frame: Any, wanted_rate: int, heard_s: float | None) -> None:
        self._kind = _kind(frame)
        rates = gcd(frame.sample_rate, wanted_rate)
        step = frame.sample_rate // rates
        self._at = at // step * (wanted_rate // rates)
        self._heard = 0 if heard_s is None else round(heard_s * wanted_rate) - self._at
        channels = len(frame.layout.channels)
        mean = "+".join(f"{1 / channels:.9f}*c{channel}" for channel in range(channels))
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        nodes = [
            self._graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            self._graph.add("pan", f"mono|c0={mean}"),
            self._graph.add("adelay", f"{at % step}S"),
            self._graph.add("apad", f"pad_len={_MARGIN * ceil(frame.sample_rate / wanted_rate)}"),
            self._graph.add("aresample", str(wanted_rate)),
            self._graph.add("aformat", "sample_fmts=flt"),
            self._graph.add("asetnsamples", f"n={wanted_rate * 10}:p=0"),
            self._graph.add("abuffersink"),
        ]
        self._graph.link_nodes(*nodes).configure()

    def takes(self, frame: Any) -> bool:
        """Whether a frame is of the same layout, format and rate."""
        return _kind(frame) == self._kind

    def push(self, frame: Any) -> None:
        frame.pts = None
        self._graph.push(frame)

    def finish(self) -> tuple[int, npt.NDArray[np.float32]]:
        """Position of the first sample, and the samples; zeros where others were heard before."""
        self._graph.push(None)
        chunks = [np.zeros(0, np.float32)]
        try:
            while True:
                chunks.append(self._graph.pull().to_ndarray()[0])
        except av.EOFError:
            samples = np.concatenate(chunks)
            samples[: max(0, self._heard)] = 0.0
            return self._at, samples


def _kind(frame: Any) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
