"""Shards that are far away: whatever fsspec reaches, such as ``s3://``, ``gs://`` and ``http://``."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from diffmavil.data.shards.files import LocalFiles, ShardFiles
from diffmavil.data.shards.index import ARRAYS, NAMES_FILE
from diffmavil.data.shards.layout import INDEX_FOLDER
from diffmavil.data.shards.lock import locked

_PAUSES_S: Final = (0.5, 2.0, 8.0)
"""Before the second, third and last try."""

_FETCHES: Final = 3
"""How often a shard is fetched that others remove."""

T = TypeVar("T")


class Remote:
    """A folder that fsspec reaches.

    Each process makes its connections itself, when it first needs them: they do not survive a fork.

    Args:
        url: The folder.
        options: For fsspec, such as ``{anon: true}``.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url, self._options = url.rstrip("/"), options
        self._process, self._system, self._root = -1, None, ""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": -1, "_system": None}

    def fetch(self, name: str, offset: int | None = None, size: int = 0) -> bytes:
        """Read a file, or ``size`` bytes of it from ``offset`` on; fewer where it ends.

        Raises:
            OSError: If it cannot be read.
        """
        end = None if offset is None else offset + size
        return self._try(name, lambda system, path: bytes(system.cat_file(path, start=offset, end=end)))

    def download(self, name: str, to: Path) -> None:
        """Copy a file; the copy is whole or not there.

        Raises:
            OSError: If it cannot be read or written.
        """
        partial = to.with_name(f"{to.name}.{os.getpid()}.part")
        try:
            self._try(name, lambda system, path: system.get_file(path, str(partial)))
            partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)

    def _try(self, name: str, act: Callable[[AbstractFileSystem, str], T]) -> T:
        """Do it, several times if need be: networks have hiccups."""
        system = self._connected()
        for pause_s in (*_PAUSES_S, None):
            try:
                return act(system, f"{self._root}/{name}")
            except (FileNotFoundError, PermissionError):
                raise
            except Exception as error:  # each protocol has its own: aiohttp's, botocore's, ...
                if pause_s is None:
                    text = " ".join(str(error).split()) or type(error).__name__
                    raise OSError(getattr(error, "errno", None) or 0, text, f"{self.url}/{name}") from error
                time.sleep(pause_s)
        raise AssertionError

    def _connected(self) -> AbstractFileSystem:
        if self._process != os.getpid():
            self._system, self._root = url_to_fs(self.url, skip_instance_cache=True, **self._options)
            self._process = os.getpid()
        return self._system


class RemoteFiles(ShardFiles):
    """Reads only what is wanted, and keeps nothing.

    Args:
        remote: Where the shards are.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def read(self, name: str, offset: int, size: int) -> bytearray:
        """Read bytes of a file; fewer where it ends.

        Raises:
            OSError: If it cannot be read.
        """
        data = self._remote.fetch(name, offset, size)
        if len(data) > size:
            raise OSError(0, "the server ignores which part is asked for; set cache_gb", f"{self._remote.url}/{name}")
        return bytearray(data)


class CachedFiles(ShardFiles):
    """Fetches whole shards and keeps the latest; all processes of this machine share them.

    fsspec's own caches write under a file's final name, where another process would read it half written.

    Args:
        remote: Where the shards are.
        folder: Where to keep them.
        most_bytes: How much to keep, the shard that is read at least.
    """

    def __init__(self, remote: Remote, folder: Path, most_bytes: float) -> None:
        self._remote, self._folder, self._most_bytes = remote, folder, most_bytes
        self._local = LocalFiles(folder, most_open=1)  # what is removed while it is open still takes its place

    def read(self, name: str, offset: int, size: int) -> bytearray:
        """Read bytes of a file; fewer where it ends.

        Raises:
            OSError: If it cannot be fetched or read.
        """
        for _ in range(_FETCHES):
            try:
                return self._local.read(name, offset, size)
            except FileNotFoundError:
                self._fetch(name)
        raise OSError(0, "others remove it as soon as it is fetched; set a larger cache_gb", str(self._folder / name))

    def _fetch(self, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / f".{name}.lock", wait=True):
            if not (self._folder / name).is_file():
                for left in self._folder.glob(f"{name}.*.part"):  # by a process that was killed: we hold the lock
                    left.unlink(missing_ok=True)
                self._remote.download(name, self._folder / name)
        self._remove_all_but_the_latest(name)

    def _remove_all_but_the_latest(self, keep: str) -> None:
        files = sorted(self._folder.glob("shard-*.tar"), key=_changed_ns, reverse=True)
        total = 0
        for path in files:
            try:
                total += path.stat().st_size
                if total > self._most_bytes and path.name != keep:
                    path.unlink()
            except FileNotFoundError:  # another process was quicker
                pass


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def cache_folder(url: str, cache_dir: Path | None) -> Path:
    """Folder of this machine for what is fetched from a place.

    Args:
        url: The place.
        cache_dir: Folder of all such folders; ``None``: one of this user's in the system's for temporary files.
    """
    root = cache_dir or Path(tempfile.gettempdir()) / f"diffmavil-{os.getuid()}"
    return root / hashlib.sha256(url.encode()).hexdigest()[:16]


def fetch_index(remote: Remote, folder: Path) -> Path:
    """Copy an index that is far away, unless the copy at hand is the same.

    Args:
        remote: Where the shards are.
        folder: Folder of this machine for what is fetched from there.

    Returns:
        Folder of the copy.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read or written.
    """
    index = folder / INDEX_FOLDER
    index.mkdir(parents=True, exist_ok=True)
    with locked(index / ".lock", wait=True):
        names = remote.fetch(f"{INDEX_FOLDER}/{NAMES_FILE}")
        copy = index / NAMES_FILE
        if not copy.is_file() or copy.read_bytes() != names:
            copy.unlink(missing_ok=True)
            for path in folder.glob("shard-*.tar"):
                path.unlink(missing_ok=True)  # another process may be quicker
            for name in ARRAYS:
                remote.download(f"{INDEX_FOLDER}/{name}.npy", index / f"{name}.npy")
            partial = copy.with_name(f"{NAMES_FILE}.part")
            partial.write_bytes(names)
            partial.replace(copy)
    return index
