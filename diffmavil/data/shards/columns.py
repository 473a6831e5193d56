"""The arrays of an index: what is in them, and making them from sidecars."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from diffmavil.data.clip_table import NO_NUMBER
from diffmavil.data.clips import SPLITS
from diffmavil.data.shards.sidecar import Sidecar

ROW: Final = np.dtype(
    [
        ("position", "<i8"),
        ("shard", "<i4"),
        ("offset", "<i8"),
        ("json_size", "<u4"),
        ("flac_size", "<u4"),
        ("flac_crc", "<u4"),
        ("first_frame", "<i8"),
        ("num_frames", "<u4"),
        ("start_s", "<f8"),
        ("end_s", "<f8"),
        ("duration_s", "<f8"),
        ("audio_s", "<f8", (2,)),
        ("video_s", "<f8", (2,)),
        ("split", "<i1"),
        ("fold", "<i4"),
        ("path_at", "<i8"),
        ("path_size", "<u4"),
        ("label_at", "<i8"),
        ("num_labels", "<u4"),
    ]
)
"""A clip: where it is, its segment and its streams' spans, what it is.

Spans are in seconds from the start of the file that it was made from; NaN: no such bound or stream.
"""

FRAME: Final = np.dtype([("size", "<u4"), ("crc32", "<u4")])
"""A picture's JPEG file."""

TYPES: Final = {"clips": ROW, "frames": FRAME, "labels": np.dtype("<i4"), "paths": np.dtype("u1")}
"""What the entries of each array are."""

ARRAYS: Final = tuple(TYPES)


class Columns:
    """The arrays of an index, as they grow.

    Args:
        classes: Names of all classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._ids = {name: k for k, name in enumerate(classes)}
        self._rows, self._paths = bytearray(), bytearray()
        self._frames, self._labels = array("I"), array("i")

    def add(self, shard: int, sidecar: Sidecar) -> None:
        """Add the clips of a shard."""
        frames, labels, paths = self._frames, self._labels, self._paths
        part = np.zeros(len(sidecar.clips), ROW)
        for row, clip in zip(part, sidecar.clips, strict=True):
            path = clip["path"].encode("utf-8", "surrogateescape")
            for name in ("position", "offset", "json_size", "flac_size", "flac_crc", "duration_s"):
                row[name] = clip[name]
            for name in ("start_s", "end_s", "audio_s", "video_s"):
                row[name] = np.nan if clip[name] in (None, np.inf) else clip[name]
            row["shard"], row["split"] = shard, SPLITS.index(clip["split"])
            row["fold"] = NO_NUMBER if clip["fold"] is None else clip["fold"]
            row["first_frame"], row["num_frames"] = len(frames) // 2, len(clip["frame_sizes"])
            row["path_at"], row["path_size"] = len(paths), len(path)
            row["label_at"], row["num_labels"] = len(labels), len(clip["labels"])
            frames.extend(n for pair in zip(clip["frame_sizes"], clip["frame_crcs"], strict=True) for n in pair)
            labels.extend(self._ids[label] for label in clip["labels"])
            paths += path
        self._rows += part.tobytes()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays, by their files' names."""
        columns: dict[str, Any] = {
            "clips": self._rows,
            "frames": self._frames,
            "labels": self._labels,
            "paths": self._paths,
        }
        return {name: np.frombuffer(columns[name], TYPES[name]) for name in ARRAYS}
