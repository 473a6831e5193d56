"""A checkpoint that is a folder of shards: looked at as data, before PyTorch reads it.

PyTorch reads the table of contents of such a folder, and the plain values in its shards, with a reader that runs what
they say.
"""

from __future__ import annotations

import io
import os
import re
import stat
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import torch

from diffmavil.models.checkpoint_file import check_archive
from diffmavil.models.checkpoint_values import CheckpointError, shown
from diffmavil.models.checkpoints import read_checkpoint
from diffmavil.models.shard_table import Entry, read_table

META: Final = "meta.pt"
"""What is neither a weight nor a state of an optimiser: one file of tensors and plain values."""

TABLE: Final = ".metadata"
"""Where everything lies, as a pickle."""

MAX_TABLE_BYTES: Final = 2**27
"""The table of a model with a thousand parameters on a hundred processes takes a third of that."""

MAX_PLAIN_BYTES: Final = 2**24
"""A plain value: the longest is the list of the names of a model's parameters."""


def check_folder(path: Path, name: str) -> None:
    """Refuse a folder of shards that is not as PyTorch writes it, or holds anything but tensors and plain values.

    No code runs. All shards are read once: PyTorch looks at no checksum. To be called before Lightning is given the
    folder.

    Args:
        path: The folder.
        name: How to call it in a message.

    Raises:
        CheckpointError: If it is refused; the message says why, in one line.
    """
    sizes = {file: _regular_file(path, file, name) for file in (TABLE, META)}
    for file in sorted(os.listdir(path)):
        if file not in sizes and not re.fullmatch(r"\w+\.distcp", file):
            raise CheckpointError(f"{name} is no folder of shards: {shown(file)} is in it")
        sizes[file] = _regular_file(path, file, name)
    if sizes[TABLE] > MAX_TABLE_BYTES:
        raise CheckpointError(f"{name} cannot be read: {TABLE} has {sizes[TABLE]} bytes, {MAX_TABLE_BYTES} at most")
    try:
        what = META
        with (path / META).open("rb") as stream:
            check_archive(stream, sizes[META])
        what = TABLE
        entries = read_table((path / TABLE).read_bytes())
        entries.sort(key=attrgetter("file", "offset", "num_bytes"))
        _check_places(entries, {file: size for file, size in sizes.items() if file not in (TABLE, META)})
        for file, inside in groupby(entries, attrgetter("file")):
            with (path / file).open("rb") as stream:
                for entry in inside:
                    what = f"{entry.key[:80]!r} in {file}"
                    _check_entry(stream, entry)
    except ValueError as error:
        raise CheckpointError(f"{name} cannot be read: {what}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {what}: {error.strerror}") from error


def _check_places(entries: list[Entry], sizes: dict[str, int]) -> None:
    """Refuse values that lie in no shard, or over one another: nothing is read twice.

    Raises:
        ValueError: If so.
    """
    for file, inside in groupby(entries, attrgetter("file")):
        if file not in sizes:
            raise ValueError(f"it names {shown(file)}, which is no shard in the folder")
        end = 0
        for entry in inside:
            if entry.offset < end:
                raise ValueError(f"{entry.key[:60]!r} lies over another value in {file}")
            end = entry.offset + entry.num_bytes
            if end > sizes[file]:
                raise ValueError(f"{entry.key[:60]!r} ends at byte {end} of {file}, which has {sizes[file]}")


def _check_entry(shard: io.BufferedIOBase, entry: Entry) -> None:
    """Refuse what is damaged, or is not what the table calls it.

    Raises:
        ValueError: If so.
    """
    if not entry.is_plain:
        check_archive(io.BufferedReader(_Part(shard, entry)), entry.num_bytes)
        return
    if entry.num_bytes > MAX_PLAIN_BYTES:
        raise ValueError(f"it is a plain value of {entry.num_bytes} bytes, {MAX_PLAIN_BYTES} at most")
    shard.seek(entry.offset)
    content = io.BytesIO(shard.read(entry.num_bytes))
    check_archive(content, entry.num_bytes, plain=True)
    content.seek(0)
    try:
        torch.load(content, weights_only=True)  # by the same reader that is then let run what it says
    except Exception as error:  # anything can make the reader stumble in any way
        raise ValueError("it is no plain value") from error


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: io.BufferedIOBase, entry: Entry) -> None:
        self._file, self._entry, self._at = file, entry, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._entry.num_bytes}[whence]
        if self._at < 0:
            raise ValueError("it is cut short")
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._entry.offset + self._at)
        content = self._file.read(max(0, min(len(buffer), self._entry.num_bytes - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def read_folder_meta(path: Path) -> dict[str, Any]:
    """Read what a folder of shards says beside weights and optimiser states: mark, origin, loops, callbacks.

    No code runs. The shards are not looked at; that is :func:`check_folder`'s.

    Args:
        path: The folder.

    Raises:
        CheckpointError: If it has none, or if that is damaged or no file of tensors and plain values.
    """
    name = f"checkpoint {path}"
    _regular_file(path, META, name)
    return read_checkpoint(path / META)


def _regular_file(folder: Path, file: str, name: str) -> int:
    """Bytes of a file in the folder, which must be one, and no link or device.

    Raises:
        CheckpointError: If it is none.
    """
    try:
        status = (folder / file).lstat()
    except OSError as error:
        raise CheckpointError(f"{name} is no folder of shards: it has no {file}") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{name} is no folder of shards: {shown(file)} in it must be a file, and no link")
    return status.st_size
