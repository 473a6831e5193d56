"""Finding any clip in a folder of shards: arrays that are mapped into memory, so that workers share them.

names.json   class names, the sizes of the shards and of these arrays, and how the shards were made
clips.npy    one row of fixed size a clip
frames.npy   size and checksum of each picture, clip after clip
labels.npy   class ids, clip after clip
paths.npy    the source's paths, UTF-8, clip after clip
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from diffmavil.data.clip_table import NO_NUMBER
from diffmavil.data.clips import SPLITS, Clip
from diffmavil.data.shards.layout import FORMAT_VERSION
from diffmavil.data.shards.writer import Sidecar, write_atomically

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

NAMES_FILE: Final = "names.json"
ARRAYS: Final = ("clips", "frames", "labels", "paths")
_ROWS_AT_ONCE: Final = 4096


def remove_index(folder: Path) -> None:
    """Make an index unusable, before the shards that it is about are written anew."""
    (folder / NAMES_FILE).unlink(missing_ok=True)


def write_index(folder: Path, sidecars: Iterable[Sidecar], *, classes: Sequence[str], settings: dict[str, Any]) -> None:
    """Write the index of finished shards.

    Args:
        folder: Where to; ``names.json`` is removed first and written last, so that an index is whole or not there.
        sidecars: What is in each shard.
        classes: Names of all classes, in the order of their ids; also of those of which no clip passed.
        settings: How the shards were made, for a reader.

    Raises:
        OSError: If it cannot be written.
    """
    remove_index(folder)
    rows, frames, labels, paths = bytearray(), array("I"), array("i"), bytearray()
    ids = {name: k for k, name in enumerate(classes)}
    sizes = []
    for shard, sidecar in enumerate(sidecars):
        sizes.append(sidecar.tar_bytes)
        part = np.zeros(len(sidecar.clips), ROW)
        for row, clip in zip(part, sidecar.clips, strict=True):
            path = clip["path"].encode("utf-8", "surrogateescape")
            for name in ("position", "offset", "json_size", "flac_size", "flac_crc", "duration_s"):
                row[name] = clip[name]
            for name in ("start_s", "end_s", "audio_s", "video_s"):
                row[name] = np.nan if clip[name] is None else clip[name]
            row["shard"], row["split"] = shard, SPLITS.index(clip["split"])
            row["fold"] = NO_NUMBER if clip["fold"] is None else clip["fold"]
            row["first_frame"], row["num_frames"] = len(frames) // 2, len(clip["frame_sizes"])
            row["path_at"], row["path_size"] = len(paths), len(path)
            row["label_at"], row["num_labels"] = len(labels), len(clip["labels"])
            frames.extend(n for pair in zip(clip["frame_sizes"], clip["frame_crcs"], strict=True) for n in pair)
            labels.extend(ids[label] for label in clip["labels"])
            paths += path
        rows += part.tobytes()
    arrays = {
        "clips": np.frombuffer(rows, ROW),
        "frames": np.frombuffer(frames, FRAME),
        "labels": np.frombuffer(labels, np.int32),
        "paths": np.frombuffer(paths, np.uint8),
    }
    for name, values in arrays.items():
        write_atomically(folder / f"{name}.npy", values)
    about = {
        "format_version": FORMAT_VERSION,
        "classes": list(classes),
        "shard_bytes": sizes,
        "array_bytes": {name: (folder / f"{name}.npy").stat().st_size for name in ARRAYS},
        "settings": settings,
    }
    write_atomically(folder / NAMES_FILE, json.dumps(about, indent=1))


def read_names(data: bytes, place: str) -> dict[str, Any]:
    """What ``names.json`` says.

    Args:
        data: The file.
        place: The index, for messages.

    Raises:
        ValueError: If it is damaged or of another version.
    """
    try:
        names = json.loads(data)
        version = names["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(place, error) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{place}: format_version must be {FORMAT_VERSION}, got {version}; `diffmavil prepare` into a new folder"
        )
    checked: dict[str, Any] = names
    return checked


class ShardIndex:
    """The index of a folder of shards, mapped into memory.

    Args:
        folder: Where it is.

    Raises:
        ValueError: If it is not there, not whole, cannot be read, or is of another version.
    """

    def __init__(self, folder: Path) -> None:
        try:
            names = read_names((folder / NAMES_FILE).read_bytes(), str(folder))
            sizes = {name: (folder / f"{name}.npy").stat().st_size for name in ARRAYS}
            if sizes != names.get("array_bytes"):
                raise _damaged(str(folder), "sizes differ")
            arrays = {name: _mapped(folder / f"{name}.npy") for name in ARRAYS}
        except FileNotFoundError:
            rule = "shards must have an index; preparing has not ended, and the same `diffmavil prepare` goes on"
            raise ValueError(f"{rule}, got none in {folder}") from None
        except OSError as error:
            raise ValueError(f"{folder}: the index cannot be read ({error.strerror or error})") from error
        self.classes: list[str] = names["classes"]
        self.shard_bytes: list[int] = names["shard_bytes"]
        self.settings: dict[str, Any] = names["settings"]
        self.rows: npt.NDArray[Any] = arrays["clips"]
        self.frames: npt.NDArray[Any] = arrays["frames"]
        self._labels, self._paths = arrays["labels"], arrays["paths"]

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, row: np.void) -> str:
        """The source's path of the clip of a row."""
        return bytes(self._paths[row["path_at"] :][: row["path_size"]]).decode("utf-8", "surrogateescape")

    def clips(self) -> Iterator[Clip]:
        """The clips, in the source's order."""
        fields = ["start_s", "end_s", "shard", "split", "fold", "path_at", "path_size", "label_at", "num_labels"]
        for begin in range(0, len(self), _ROWS_AT_ONCE):
            rows = self.rows[begin : begin + _ROWS_AT_ONCE]
            paths_at, labels_at = int(rows["path_at"][0]), int(rows["label_at"][0])
            paths = bytes(self._paths[paths_at : int(rows["path_at"][-1] + rows["path_size"][-1])])
            labels = self._labels[labels_at : int(rows["label_at"][-1] + rows["num_labels"][-1])].tolist()
            for k, (start_s, end_s, shard, split, fold, path_at, path_size, label_at, num_labels) in enumerate(
                rows[fields].tolist(), begin
            ):
                at, label_at = path_at - paths_at, label_at - labels_at
                path = paths[at : at + path_size].decode("utf-8", "surrogateescape")
                ids = labels[label_at : label_at + num_labels]
                yield Clip(
                    path=path,
                    start_s=None if isnan(start_s) else start_s,
                    end_s=None if isnan(end_s) else end_s,
                    split=SPLITS[split],
                    labels=tuple(self.classes[label] for label in ids),
                    fold=None if fold == NO_NUMBER else fold,
                    row=k,
                    block=shard,
                )


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        # a plain array, as a part of a memmap takes microseconds to be made
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r").view(np.ndarray)
    except (ValueError, EOFError) as error:
        raise _damaged(str(path.parent), error) from error
    return array


def _damaged(place: str, why: object) -> ValueError:
    return ValueError(f"{place}: the index is damaged; `diffmavil prepare` writes it anew ({why})")
