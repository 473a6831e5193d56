"""Sound of any rate and number of channels as 16-bit mono, by FFmpeg's filters."""

from __future__ import annotations

from typing import Any

import av
import av.filter
import numpy as np
import numpy.typing as npt


class Mono:
    """Takes in decoded frames of sound, gives out the mean of their channels, resampled.

    FFmpeg's own mix of floating-point stereo to mono is sqrt(2) times the mean; this one is the mean.

    Args:
        sample_rate_hz: Wanted sample rate.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate = sample_rate_hz
        self._graph: Any = None

    def push(self, frame: Any) -> None:
        """Take in a frame."""
        if self._graph is None:
            self._graph = self._build(frame)
        frame.pts = None
        self._graph.push(frame)

    def finish(self) -> npt.NDArray[np.int16]:
        """Give out all that was taken in, resampled."""
        chunks = [np.zeros(0, np.int16)]
        if self._graph is not None:
            self._graph.push(None)
            try:
                while True:
                    chunks.append(self._graph.pull().to_ndarray()[0])
            except av.EOFError:
                pass
        return np.concatenate(chunks)

    def _build(self, frame: Any) -> Any:
        channels = len(frame.layout.channels)
        mean = "+".join(f"{1 / channels:.9f}*c{channel}" for channel in range(channels))
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            graph.add("pan", f"mono|c0={mean}"),
            graph.add("aresample", str(self._rate)),
            graph.add("aformat", "sample_fmts=s16"),
            graph.add("asetnsamples", f"n={self._rate * 10}:p=0"),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph
