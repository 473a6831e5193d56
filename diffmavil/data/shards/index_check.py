"""What an index must be like; one that passes can be trusted by whoever reads from it.

Checksums tell damage. What is checked here could also be wrong in an index that somebody, or a bug, wrote with
checksums that are right: every place must lie in its array or its shard, and every number in its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from diffmavil.data.clip_table import NO_NUMBER
from diffmavil.data.clips import SPLITS
from diffmavil.data.shards.columns import ARRAYS
from diffmavil.data.shards.layout import END_OF_TAR, MAX_CLIP_BYTES, TAR_BLOCK, Stored

_MAX_S: Final = 1e6
"""Of any time, as for media files."""

_MAX_ARRAY_BYTES: Final = 2**36
_MAX_SHARD_BYTES: Final = 2**40
_MAX_PATH_BYTES: Final = 2**16
_ROUNDING_S: Final = 1e-3
_ROWS_AT_ONCE: Final = 2**15

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Content:
    """What an index says, but for how the shards were made.

    Args:
        rows: One a clip, of ``diffmavil.data.shards.columns.ROW``.
        frames: Size and checksum of each picture.
        labels: Class ids.
        paths: Bytes of the paths.
        shard_bytes: Size of each shard.
        num_classes: Number of classes.
        fps: Stored pictures a second.
    """

    rows: Array
    frames: Array
    labels: Array
    paths: Array
    shard_bytes: Sequence[int]
    num_classes: int
    fps: float


def check_names(names: dict[str, Any]) -> None:
    """Check what ``names.json`` says.

    Args:
        names: What it says.

    Raises:
        ValueError: If something is missing or not as it must be, in one line.
    """
    classes, shard_bytes = names.get("classes"), names.get("shard_bytes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes must be a list of names")
    if len(set(classes)) < len(classes):
        raise ValueError("classes must differ from each other")
    if not isinstance(shard_bytes, list):
        raise ValueError("shard_bytes must be a list of sizes")
    for size in shard_bytes:
        if not _is_whole(size, len(END_OF_TAR), _MAX_SHARD_BYTES) or size % TAR_BLOCK:
            raise ValueError(f"shard_bytes must be sizes of tar files, got {size!r:.50}")
    for kind, most in (("array_bytes", _MAX_ARRAY_BYTES), ("array_crc32", 2**32 - 1)):
        numbers = names.get(kind)
        if not isinstance(numbers, dict) or set(numbers) != set(ARRAYS):
            raise ValueError(f"{kind} must have {', '.join(ARRAYS)}")
        for name, number in numbers.items():
            if not _is_whole(number, 0, most):
                raise ValueError(f"{kind}.{name} must be in [0, {most}], got {number!r:.50}")
    settings = names.get("settings")
    stored = settings.get("stored") if isinstance(settings, dict) else None
    if not isinstance(stored, dict):
        raise ValueError("settings.stored must say how sound and pictures are stored")
    for name in ("fps", "sample_rate_hz"):
        if name not in stored:
            raise ValueError(f"settings.stored must have {name}")
    for name, value in stored.items():
        kinds = (int, float) if name == "fps" else int
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"settings.stored.{name} must be a number, got {value!r:.50}")
    try:
        Stored(**stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings.stored: {error}") from error


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def check_content(content: Content) -> None:
    """Check what the arrays say, some rows at a time.

    Args:
        content: The arrays, of the right types and of one axis each.

    Raises:
        ValueError: Naming the first clip with which something is wrong, in one line.
    """
    _check_labels(content)
    place = _Place()
    for begin in range(0, len(content.rows), _ROWS_AT_ONCE):
        place = _Rows(content, begin, place).check()
    ends = {"frames": place.frame, "labels": place.label, "paths": place.path}
    for name, end in ends.items():
        if end != (length := len(getattr(content, name))):
            raise ValueError(f"{name} must be as many as the clips have, {end}, got {length}")
    _check_ends_of_shards(content.shard_bytes, place, len(content.shard_bytes))


def _check_labels(content: Content) -> None:
    labels = content.labels
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < content.num_classes:
        raise ValueError(f"labels must be in [0, {content.num_classes}), the number of classes")


@dataclass(frozen=True)
class _Place:
    """Where a clip must lie: what comes before it ends there."""

    position: int = -1
    shard: int = 0
    offset: int = 0
    frame: int = 0
    label: int = 0
    path: int = 0


class _Rows:
    """Some rows that are checked together.

    Args:
        content: What they are a part of.
        begin: Number of the first.
        place: Where it must lie.
    """

    def __init__(self, content: Content, begin: int, place: _Place) -> None:
        self._content, self._begin, self._place = content, begin, place
        self._rows = content.rows[begin : begin + _ROWS_AT_ONCE]

    def check(self) -> _Place:
        """Check them; gives where the next one must lie."""
        rows, place, position = self._rows, self._place, self._rows["position"]
        self._require(position > _before(position, place.position), "position must be above that of the clip before")
        self._require((rows["split"] >= 0) & (rows["split"] < len(SPLITS)), f"split must be in [0, {len(SPLITS)})")
        self._require(rows["fold"] >= NO_NUMBER, f"fold must be at least {NO_NUMBER}")
        self._require(rows["path_size"] <= _MAX_PATH_BYTES, f"path_size must be at most {_MAX_PATH_BYTES}")
        frame = self._check_parts("first_frame", "num_frames", place.frame, len(self._content.frames))
        label = self._check_parts("label_at", "num_labels", place.label, len(self._content.labels))
        path = self._check_parts("path_at", "path_size", place.path, len(self._content.paths))
        self._check_times()
        shard, offset = self._check_places(frame)
        return _Place(int(position[-1]), shard, offset, frame, label, path)

    def _require(self, is_right: Array, rule: str) -> None:
        if not is_right.all():
            raise ValueError(f"clip {self._begin + int(np.argmin(is_right))}: {rule}")

    def _check_parts(self, start: str, count: str, begin: int, length: int) -> int:
        """Check that the clips' parts of an array follow each other and lie in it; gives where the last one ends."""
        ends = begin + np.cumsum(self._rows[count], dtype=np.int64)
        self._require(self._rows[start] == _before(ends, begin), f"{start} must be where that of the clip before ends")
        self._require(ends <= length, f"{start} and {count} must be of a part of the array")
        return int(ends[-1])

    def _check_times(self) -> None:
        """Check segments and spans; comparisons are such that a NaN is wrong where none may be."""
        rows = self._rows
        start_s = np.where(np.isnan(rows["start_s"]), 0.0, rows["start_s"])
        end_s = np.where(np.isnan(rows["end_s"]), _MAX_S, rows["end_s"])
        self._require((start_s >= 0.0) & (start_s <= _MAX_S), f"start_s must be in [0, {_MAX_S:g}]")
        self._require((end_s > start_s) & (end_s < np.inf), "end_s must be above start_s")
        counts = {"audio_s": rows["flac_size"], "video_s": rows["num_frames"]}
        self._require((counts["audio_s"] > 0) | (counts["video_s"] > 0), "there must be sound or pictures")
        for name, count in counts.items():
            first_s, last_s = rows[name].T
            is_within = (first_s >= start_s - _ROUNDING_S) & (first_s < last_s) & (last_s <= end_s + _ROUNDING_S)
            is_none = np.isnan(first_s) & np.isnan(last_s)
            self._require(np.where(count > 0, is_within & (last_s <= _MAX_S), is_none), f"{name} must lie in the clip")
        length_s = np.fmax(*(rows[name][:, 1] for name in counts)) - start_s
        self._require(np.abs(rows["duration_s"] - length_s) <= _ROUNDING_S, "duration_s must be that of its streams")
        wanted = np.maximum(1.0, np.ceil((rows["video_s"][:, 1] - start_s) * self._content.fps))
        is_right = np.abs(rows["num_frames"] - wanted) <= 1.0  # a picture at the very end may be missing by rounding
        self._require(is_right | (rows["num_frames"] == 0), "num_frames must be those of video_s")

    def _check_places(self, frame: int) -> tuple[int, int]:
        """Check that within a shard the clips follow each other from its first byte to its end mark."""
        rows, place, shards = self._rows, self._place, self._content.shard_bytes
        pictures = self._content.frames["size"][place.frame : frame].astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(_in_tar(pictures))])
        first = rows["first_frame"] - place.frame
        about, sound = (rows[name].astype(np.int64) for name in ("json_size", "flac_size"))
        sizes = _in_tar(about) + np.where(sound > 0, _in_tar(sound), 0) + ends[first + rows["num_frames"]] - ends[first]
        self._require(sizes <= MAX_CLIP_BYTES, f"it must take at most {MAX_CLIP_BYTES} bytes")
        ends_at = rows["offset"] + sizes
        shard, shard_before = rows["shard"], _before(rows["shard"], place.shard)
        self._require(
            (shard >= shard_before) & (shard < len(shards)), "shard must be that of the clip before, or a later one"
        )
        is_first = shard != shard_before
        ended_at = _before(ends_at, place.offset)
        self._require(rows["offset"] == np.where(is_first, 0, ended_at), "offset must be where the clip before ends")
        for k in np.flatnonzero(is_first).tolist():
            _check_ends_of_shards(shards, _Place(shard=int(shard_before[k]), offset=int(ended_at[k])), int(shard[k]))
        return int(shard[-1]), int(ends_at[-1])


def _before(values: Array, first: int) -> Array:
    """Of each row, the value of the one before it."""
    return np.concatenate([np.array([first], values.dtype), values[:-1]])


def _in_tar(sizes: Array) -> Array:
    """What members take with their headers and padding."""
    return TAR_BLOCK + -(-sizes // TAR_BLOCK) * TAR_BLOCK


def _check_ends_of_shards(shard_bytes: Sequence[int], place: _Place, end: int) -> None:
    """Check the sizes of the shard that a clip is the last of, and of those after it without any."""
    for number in range(place.shard, end):
        size = len(END_OF_TAR) + (place.offset if number == place.shard else 0)
        if shard_bytes[number] != size:
            raise ValueError(f"shard {number} must have the {size} bytes of its clips, got {shard_bytes[number]}")
