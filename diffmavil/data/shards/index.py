"""Finding any clip in a folder of shards: arrays that are mapped into memory, so that workers share them.

names.json   class names, the sizes of the shards and the sizes and checksums of these arrays, how the shards were made,
             and a checksum of all that
clips.npy    one row of fixed size a clip
frames.npy   size and checksum of each picture, clip after clip
labels.npy   class ids, clip after clip
paths.npy    the source's paths, UTF-8, clip after clip
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from diffmavil.data.clip_table import NO_NUMBER
from diffmavil.data.clips import SPLITS, Clip
from diffmavil.data.json_files import parse_json, sealed, unsealed
from diffmavil.data.regular import read_regular, regular_file
from diffmavil.data.shards.columns import ARRAYS, TYPES, Columns
from diffmavil.data.shards.index_check import Content, check_content, check_names
from diffmavil.data.shards.layout import INDEX_VERSION
from diffmavil.data.shards.sidecar import Sidecar
from diffmavil.data.shards.writer import write_atomically

NAMES_FILE: Final = "names.json"
MAX_NAMES_BYTES: Final = 2**25
_ROWS_AT_ONCE: Final = 4096
_BYTES_AT_ONCE: Final = 2**20


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
    columns, sizes = Columns(classes), []
    for shard, sidecar in enumerate(sidecars):
        sizes.append(sidecar.tar_bytes)
        columns.add(shard, sidecar)
    for name, values in columns.arrays().items():
        write_atomically(folder / f"{name}.npy", values)
    paths = {name: folder / f"{name}.npy" for name in ARRAYS}
    about = {
        "format_version": INDEX_VERSION,
        "classes": list(classes),
        "shard_bytes": sizes,
        "array_bytes": {name: path.stat().st_size for name, path in paths.items()},
        "array_crc32": {name: _crc_of(path) for name, path in paths.items()},
        "settings": settings,
    }
    write_atomically(folder / NAMES_FILE, json.dumps(sealed(about), indent=1))


def check_sidecar(sidecar: Sidecar, *, classes: Sequence[str], fps: float) -> None:
    """Check that the index of a shard alone would be right.

    Args:
        sidecar: What is in the shard.
        classes: Names of all classes.
        fps: Stored pictures a second.

    Raises:
        ValueError: If something is missing in the sidecar or not as it must be.
    """
    try:
        columns = Columns(classes)
        columns.add(0, sidecar)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    arrays = columns.arrays()
    check_content(
        Content(
            rows=arrays["clips"],
            frames=arrays["frames"],
            labels=arrays["labels"],
            paths=arrays["paths"],
            shard_bytes=[sidecar.tar_bytes],
            num_classes=len(classes),
            fps=fps,
        )
    )


def read_names(data: bytes, place: str) -> dict[str, Any]:
    """What ``names.json`` says.

    Args:
        data: The file.
        place: The index, for messages.

    Raises:
        ValueError: If it is damaged or of another version.
    """
    try:
        names = parse_json(data)
        version = names["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(place, error) from error
    if version == INDEX_VERSION - 1:
        how = "the same `diffmavil prepare` as before writes the index anew, from the shards"
        raise ValueError(f"{place}: format_version must be {INDEX_VERSION}, got {version}; {how}")
    if version != INDEX_VERSION:
        how = "`diffmavil prepare` into a new folder"
        raise ValueError(f"{place}: format_version must be {INDEX_VERSION}, got {version!r:.50}; {how}")
    try:
        checked = unsealed(names)
        check_names(checked)
    except ValueError as error:
        raise _damaged(place, error) from error
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
            names = read_names(read_regular(folder / NAMES_FILE, max_bytes=MAX_NAMES_BYTES), str(folder))
            arrays = {name: _mapped(folder / f"{name}.npy", name, names) for name in ARRAYS}
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
        content = Content(
            rows=self.rows,
            frames=self.frames,
            labels=self._labels,
            paths=self._paths,
            shard_bytes=self.shard_bytes,
            num_classes=len(self.classes),
            fps=self.settings["stored"]["fps"],
        )
        try:
            check_content(content)
        except ValueError as error:
            raise _damaged(str(folder), error) from error

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


def _mapped(path: Path, name: str, names: dict[str, Any]) -> npt.NDArray[Any]:
    """An array, mapped into memory, of the size, the checksum and the type that it must have."""
    place = str(path.parent)
    with regular_file(path) as file:
        if os.fstat(file.fileno()).st_size != names["array_bytes"][name]:
            raise _damaged(place, f"sizes differ, of {path.name}")
        if _crc(file) != names["array_crc32"][name]:
            raise _damaged(place, f"the checksum of {path.name} differs")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            shape, is_fortran, kind = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # whatever numpy makes of a header that somebody wrote, also RecursionError
            raise _damaged(place, f"{path.name} is no array of numpy's that can be read") from error
        if version != (1, 0) or is_fortran or kind != TYPES[name] or len(shape) != 1:
            raise _damaged(place, f"{path.name} must have entries of another type, along one axis")
        if file.tell() + shape[0] * kind.itemsize != names["array_bytes"][name]:
            raise _damaged(place, f"{path.name} must have the entries that it states, {shape[0]}")
        mapped = np.memmap(file, kind, "r", file.tell(), shape)
    return mapped.view(np.ndarray)  # a plain array, as a part of a memmap takes microseconds to be made


def _crc(file: IO[bytes]) -> int:
    crc, room = 0, bytearray(_BYTES_AT_ONCE)
    while count := file.readinto(room):  # type: ignore[attr-defined]  # typeshed's IO lacks it
        crc = zlib.crc32(memoryview(room)[:count], crc)
    return crc


def _crc_of(path: Path) -> int:
    with regular_file(path) as file:
        return _crc(file)


def _damaged(place: str, why: object) -> ValueError:
    return ValueError(f"{place}: the index is damaged; `diffmavil prepare` writes it anew ({why})")
