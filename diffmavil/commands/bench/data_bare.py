"""Nothing but decoding: what a loader adds to, and what it is measured by."""

from __future__ import annotations

import io
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torchvision.io import decode_jpeg

Bare = Callable[[int], None]
"""Decodes the window of a clip, by its number."""


@dataclass(frozen=True, kw_only=True)
class BareVideo:
    """Decodes, with PyAV's own calls, the sound of whole files and some pictures of each.

    Args:
        paths: The files.
        times_s: When the pictures are shown, in seconds from the file's start, in ascending order.
        short_side: Pixels to which their shorter side is brought.
        sample_rate_hz: Rate that the sound is brought to.
    """

    paths: list[str]
    times_s: list[float]
    short_side: int
    sample_rate_hz: int

    def __call__(self, clip: int) -> None:
        """Decode a clip and forget it."""
        self.decode(clip)

    def decode(self, clip: int) -> tuple[npt.NDArray[np.int16], list[npt.NDArray[np.uint8]]]:
        """The sound of a clip, of shape (1, samples), and pictures of shape (H, W, 3)."""
        with av.open(self.paths[clip]) as container:
            sound, film = container.streams.audio[0], container.streams.video[0]
            film.codec_context.thread_type = "NONE"
            return self._sound(container, sound), self._pictures(container, film)

    def _sound(self, container: Any, stream: Any) -> npt.NDArray[np.int16]:
        graph = av.filter.Graph()
        nodes = [
            graph.add_abuffer(template=stream),
            graph.add("aformat", f"sample_fmts=s16:sample_rates={self.sample_rate_hz}:channel_layouts=mono"),
            graph.add("asetnsamples", f"n={self.sample_rate_hz * 10}:p=0"),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for frame in container.decode(stream):
            graph.push(frame)
        graph.push(None)
        chunks = []
        try:
            while True:
                chunks.append(graph.pull().to_ndarray())
        except av.EOFError:
            return np.concatenate(chunks, axis=1)

    def _pictures(self, container: Any, stream: Any) -> list[npt.NDArray[np.uint8]]:
        container.seek(int(self.times_s[0] / stream.time_base), stream=stream)
        scale = self.short_side / min(stream.width, stream.height)
        size = {"width": round(stream.width * scale), "height": round(stream.height * scale)}
        wanted, pictures, shown = list(self.times_s), [], None
        for frame in container.decode(stream):
            while wanted and frame.time > wanted[0]:
                wanted.pop(0)
                pictures.append((shown or frame).reformat(**size, format="rgb24", threads=1).to_ndarray())
            if not wanted:
                break
            shown = frame
        return pictures


@dataclass(frozen=True, kw_only=True)
class BareShards(ABC):
    """Decodes the sound and some pictures of clips in shards; what is read from the disk stays in memory.

    Args:
        root: Folder of the shards.
        times_s: When the pictures are shown, in seconds from a clip's start.
        fps: Stored pictures a second.
    """

    root: Path
    times_s: list[float]
    fps: float

    def __call__(self, clip: int) -> None:
        """Decode a clip and forget it."""
        self.decode(clip)

    def decode(self, clip: int) -> tuple[npt.NDArray[np.int16], list[npt.NDArray[np.uint8]]]:
        """The sound of a clip, of shape (samples,), and pictures of shape (H, W, 3)."""
        members = _members(self.root)[clip]
        jpegs = [members[f"{int(time_s * self.fps + 1e-3):03d}.jpg"] for time_s in self.times_s]
        return self._sound(members["flac"]), self._pictures(jpegs)

    @abstractmethod
    def _sound(self, flac: bytes) -> npt.NDArray[np.int16]: ...

    @abstractmethod
    def _pictures(self, jpegs: list[bytes]) -> list[npt.NDArray[np.uint8]]: ...


class PyAVShards(BareShards):
    """With PyAV's own calls."""

    def _sound(self, flac: bytes) -> npt.NDArray[np.int16]:
        with av.open(io.BytesIO(flac), "r") as container:
            return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])

    def _pictures(self, jpegs: list[bytes]) -> list[npt.NDArray[np.uint8]]:
        codec: Any = av.CodecContext.create("mjpeg", "r")
        codec.thread_type = "NONE"
        frames = [frame for jpeg in jpegs for frame in codec.decode(av.Packet(jpeg))]
        return [frame.reformat(format="rgb24", threads=1).to_ndarray() for frame in frames]


class LoadersShards(BareShards):
    """With the calls of torchvision and soundfile that the loader makes: the fastest that were found."""

    def _sound(self, flac: bytes) -> npt.NDArray[np.int16]:
        samples: npt.NDArray[np.int16] = soundfile.read(io.BytesIO(flac), dtype="int16")[0]
        return samples

    def _pictures(self, jpegs: list[bytes]) -> list[npt.NDArray[np.uint8]]:
        data = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
        return [decode_jpeg(jpeg).permute(1, 2, 0).numpy() for jpeg in data]


@cache
def _members(root: Path) -> list[dict[str, bytes]]:
    """What the shards hold of each clip, by what follows the key in a member's name."""
    clips: dict[str, dict[str, bytes]] = {}
    for shard in sorted(root.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                clips.setdefault(key, {})[kind] = file.read()
    return list(clips.values())
