"""Shards that are far away: whatever fsspec reaches, such as ``s3://``, ``gs://`` and ``http://``."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EFBIG, ETIMEDOUT
from math import inf
from pathlib import Path
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs

from diffmavil.data.atomic import make_folder, whole_file
from diffmavil.data.media import TIMEOUT_S
from diffmavil.data.regular import read_regular
from diffmavil.data.shards.columns import ARRAYS
from diffmavil.data.shards.files import LocalFiles, Shard, ShardFiles, TimeLimit
from diffmavil.data.shards.index import MAX_NAMES_BYTES, NAMES_FILE, read_names
from diffmavil.data.shards.layout import INDEX_FOLDER, Extent
from diffmavil.data.shards.lock import locked

_PAUSES_S: Final = (0.5, 2.0, 8.0)
"""Before the second, third and last try."""

_FETCHES: Final = 3
"""How often a shard is fetched that others remove."""

_CHUNK_BYTES: Final = 2**20
"""How much is taken from a server at once, at most."""

_PART_BYTES: Final = 2**24
"""How much of a file is asked for at once where the whole of it is copied."""

_LEFT_S: Final = 3600.0
"""What has not been written to for so long was left by a process that was killed."""


class Remote:
    """A folder that fsspec reaches.

    Each process makes its connections itself, when it first needs them: they do not survive a fork.

    Args:
        url: The folder.
        options: For fsspec, such as ``{anon: true}``.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url, self._options = url.rstrip("/"), options
        self._is_http = self.url.startswith(("http://", "https://"))
        self._process, self._system, self._root = -1, None, ""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": -1, "_system": None}

    def fetch(self, name: str, place: Extent | None = None, limit: TimeLimit | None = None, *, most: int) -> bytes:
        """Read a file, or bytes of it; fewer where it ends.

        Args:
            name: The file.
            place: Which bytes; ``None``: all.
            limit: For all tries together; ``None``: ``TIMEOUT_S``. A single try of a file system that is not
                asynchronous, such as fsspec's own caches, knows no limit but its own.
            most: Bytes to take at most, whatever the server sends.

        Raises:
            TimeoutError: If it takes longer.
            OSError: If it cannot be read, or if there is more.
        """
        limit = limit or TimeLimit(TIMEOUT_S)
        for pause_s in (*_PAUSES_S, inf):
            try:
                return self._try(name, place, limit.left_s(), most)
            except (FileNotFoundError, PermissionError, TooMuch):
                raise
            except TimeoutError as error:  # waited long enough
                text = f"not done after {limit.timeout_s:g} s"
                raise TimeoutError(ETIMEDOUT, text, f"{self.url}/{name}") from error
            except Exception as error:  # networks have hiccups; each protocol has its own: aiohttp's, botocore's, ...
                if not limit.allows(pause_s):
                    text = " ".join(str(error).split()) or type(error).__name__
                    raise OSError(getattr(error, "errno", None) or 0, text, f"{self.url}/{name}") from error
                time.sleep(pause_s)
        raise AssertionError

    def _try(self, name: str, place: Extent | None, timeout_s: float, most: int) -> bytes:
        system, path = self._connected(), f"{self._root}/{name}"
        options: dict[str, Any] = {"timeout": timeout_s} if isinstance(system, AsyncFileSystem) else {}
        room = _Room(f"{self.url}/{name}", most)
        if self._is_http:  # cat_file would hold all that a server cares to send
            headers = {**self._options.get("headers", {}), "Accept-Encoding": "identity"}
            if place is not None:
                headers["Range"] = f"bytes={place.offset}-{place.offset + place.size - 1}"
            system.get_file(path, room, headers=headers, chunk_size=_CHUNK_BYTES, **options)
        else:
            begin, end = (0, most + 1) if place is None else (place.offset, place.offset + place.size)
            room.write(system.cat_file(path, start=begin, end=end, **options))
        return room.getvalue()

    def download(self, name: str, size: int, to: Path, timeout_s: float = TIMEOUT_S) -> None:
        """Copy a file; the copy is whole or not there. Where the file is shorter than it should be, so is the copy.

        Args:
            name: The file.
            size: How many bytes it should have.
            to: The copy.
            timeout_s: Seconds for each ``_PART_BYTES`` of it, and for all of it where the server knows no parts.

        Raises:
            TimeoutError: If it takes longer.
            OSError: If it cannot be read or written.
        """
        with whole_file(to, to.with_name(f"{to.name}.{os.getpid()}.part")) as file:
            for begin in range(0, size, _PART_BYTES):
                part = Extent(begin, min(_PART_BYTES, size - begin))
                # a server that knows no parts sends the whole
                data = self.fetch(name, part, TimeLimit(timeout_s), most=part.size if begin else size)
                file.write(data)
                if len(data) != part.size:  # the file's end, or the whole of it from a server that knows no parts
                    break

    def _connected(self) -> AbstractFileSystem:
        if self._process != os.getpid():
            options = self._options
            if self._is_http:  # what is packed could grow by a thousand times
                client = {"auto_decompress": False, **options.get("client_kwargs", {})}
                options = {**options, "client_kwargs": client}
            self._system, self._root = url_to_fs(self.url, skip_instance_cache=True, **options)
            self._process = os.getpid()
        return self._system


class TooMuch(OSError):
    """A server sent more than was asked for."""


class _Room(io.BytesIO):
    """What a server sends, up to a size.

    Args:
        url: Where it is from, for messages.
        most: How many bytes.
    """

    def __init__(self, url: str, most: int) -> None:
        super().__init__()
        self._url, self._most = url, most

    def write(self, data: Any) -> int:
        """Take more.

        Raises:
            TooMuch: If that is too much.
        """
        if self.tell() + memoryview(data).nbytes > self._most:
            raise TooMuch(EFBIG, f"the server sends more than {self._most} bytes", self._url)
        return super().write(data)


class RemoteFiles(ShardFiles):
    """Reads only what is wanted, and keeps nothing.

    Args:
        remote: Where the shards are.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def read(self, shard: Shard, place: Extent, limit: TimeLimit) -> bytearray:
        """Read bytes of a shard; fewer where its file ends.

        Raises:
            TimeoutError: If no time is left for it.
            OSError: If it cannot be read.
        """
        return bytearray(self._fetch(shard, place, limit))

    def read_each(self, shard: Shard, places: Sequence[Extent], limit: TimeLimit) -> Iterator[memoryview]:
        """Read several runs of bytes of a shard, by one request for all from the first to the last.

        Raises:
            TimeoutError: If no time is left for it.
            OSError: If it cannot be read.
        """
        begin, end = places[0].offset, places[-1].offset + places[-1].size
        data = memoryview(self.read(shard, Extent(begin, end - begin), limit))
        return (data[place.offset - begin :][: place.size] for place in places)

    def _fetch(self, shard: Shard, place: Extent, limit: TimeLimit) -> bytes:
        try:
            return self._remote.fetch(shard.name, place, limit, most=place.size)
        except TooMuch as error:
            text = "the server sends more than the part that is asked for; set cache_gb if it knows no parts"
            raise OSError(EFBIG, text, f"{self._remote.url}/{shard.name}") from error


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
        self._remote_sizes: dict[str, int] = {}  # as they came, which may not be as the index says

    def read(self, shard: Shard, place: Extent, limit: TimeLimit) -> bytearray:
        """Read bytes of a shard; fewer where its file ends.

        Args:
            shard: The shard.
            place: Which bytes.
            limit: For each part of the shard, where it has to be fetched: a clip cannot pay for all of it.

        Raises:
            TimeoutError: If it takes too long to fetch.
            OSError: If it cannot be fetched or read.
        """
        for _ in range(_FETCHES):
            try:
                if self._local.is_open(shard) or self._is_whole(shard):
                    return self._local.read(shard, place, limit)
            except FileNotFoundError:
                pass
            self._fetch(shard, limit.timeout_s)
        path = str(self._folder / shard.name)
        raise OSError(0, "others remove it as soon as it is fetched; set a larger cache_gb", path)

    def _is_whole(self, shard: Shard) -> bool:
        """Whether a shard is there, and not cut short by a power cut."""
        try:
            size = (self._folder / shard.name).stat().st_size
        except FileNotFoundError:
            return False
        return size == self._remote_sizes.get(shard.name, shard.size)

    def _fetch(self, shard: Shard, timeout_s: float) -> None:
        make_folder(self._folder)
        path = self._folder / shard.name
        with locked(self._folder / f".{shard.name}.lock", wait=True):
            if not self._is_whole(shard):
                for left in self._folder.glob(f"{shard.name}.*.part"):  # by a process that was killed: we hold the lock
                    left.unlink(missing_ok=True)
                self._remote.download(shard.name, shard.size, path, timeout_s)
                self._remote_sizes[shard.name] = path.stat().st_size
        self._remove_all_but_the_latest(shard.name)

    def _remove_all_but_the_latest(self, keep: str) -> None:
        total = 0
        for path in sorted(self._folder.glob("shard-*"), key=_changed_ns, reverse=True):
            try:
                state = path.stat()
                total += state.st_size
                if path.suffix == ".part":
                    is_wanted = state.st_mtime > time.time() - _LEFT_S  # others are writing it
                else:
                    is_wanted = total <= self._most_bytes or path.name == keep
                if not is_wanted:
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
    root = cache_dir or _own_folder()
    return root / hashlib.sha256(url.encode()).hexdigest()[:16]


def _own_folder() -> Path:
    """Folder of this user in the system's for temporary files, where others could have made one of that name."""
    folder = Path(tempfile.gettempdir()) / f"diffmavil-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ValueError(f"cache_dir must be given where {folder} is another user's")
    return folder


def fetch_index(remote: Remote, folder: Path, *, anew: bool = False) -> Path:
    """Copy an index that is far away, unless the copy at hand is the same.

    Args:
        remote: Where the shards are.
        folder: Folder of this machine for what is fetched from there.
        anew: Copy it in any case.

    Returns:
        Folder of the copy.

    Raises:
        ValueError: If it is damaged or of another version.
        FileNotFoundError: If there is none.
        OSError: If it cannot be read or written.
    """
    index = folder / INDEX_FOLDER
    make_folder(index)
    with locked(index / ".lock", wait=True):
        data = remote.fetch(f"{INDEX_FOLDER}/{NAMES_FILE}", most=MAX_NAMES_BYTES)
        names = read_names(data, f"{remote.url}/{INDEX_FOLDER}")
        copy = index / NAMES_FILE
        is_same = copy.is_file() and read_regular(copy, max_bytes=MAX_NAMES_BYTES) == data
        if anew or not is_same:
            copy.unlink(missing_ok=True)
            for path in [*index.glob("*.part"), *(() if is_same else folder.glob("shard-*.tar"))]:
                path.unlink(missing_ok=True)  # another process may be quicker
            for name in ARRAYS:
                remote.download(f"{INDEX_FOLDER}/{name}.npy", names["array_bytes"][name], index / f"{name}.npy")
            with whole_file(copy) as file:
                file.write(data)
    return index
