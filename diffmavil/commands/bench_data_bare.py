"""Nothing but decoding: what no loader can be faster than."""

from __future__ import annotations

import io
import tarfile
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

    def decode(self, clip: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
        """The sound of a clip, of shape (1, samples), and pictures of shape (T, H, W, 3)."""
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

    def _pictures(self, container: Any, stream: Any) -> npt.NDArray[np.uint8]:
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
        return np.stack(pictures)


@dataclass(frozen=True, kw_only=True)
class BareShards:
    """Decodes, with torchvision's and soundfile's own calls, the sound and some pictures of clips in shards.

    What is read from the disk stays in memory.

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

    def decode(self, clip: int) -> tuple[npt.NDArray[np.int16], torch.Tensor]:
        """The sound of a clip, of shape (samples,), and pictures of shape (T, 3, H, W)."""
        members = _members(self.root)[clip]
        sound, _ = soundfile.read(io.BytesIO(members["flac"]), dtype="int16")
        jpegs = [members[f"{int(time_s * self.fps + 1e-3):03d}.jpg"] for time_s in self.times_s]
        pictures = [decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8)) for jpeg in jpegs]
        return sound, torch.stack(pictures)


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
