"""Writing shards: each is whole or not there."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from diffmavil.data.atomic import confirm, new_file, partial_of, put_in_place, whole_file
from diffmavil.data.shards.encode import EncodedClip
from diffmavil.data.shards.layout import END_OF_TAR, clip_key, member, shard_name
from diffmavil.data.shards.sidecar import Rejection, Sidecar, sidecar_path


class ShardWriter:
    """Writes one shard: clips and rejections are added in the source's order, then it is finished.

    Args:
        folder: Where the shards are.
        number: Number of this one.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._path = folder / shard_name(number)
        self._partial = partial_of(self._path)
        self._file: IO[bytes] | None = None
        self._sidecar = Sidecar()

    def add(self, position: int, clip: EncodedClip) -> None:
        """Append a clip.

        Raises:
            OSError: If it cannot be written.
        """
        key = clip_key(position, clip.about["path"])
        members = [(f"{key}.json", clip.json)]
        members += [(f"{key}.flac", clip.flac)] if clip.flac else []
        members += [(f"{key}.{k:03d}.jpg", jpeg) for k, jpeg in enumerate(clip.jpegs)]
        row = {
            **clip.about,
            "position": position,
            "offset": self._sidecar.tar_bytes,
            "json_size": len(clip.json),
            "flac_size": len(clip.flac),
            "flac_crc": zlib.crc32(clip.flac),
            "frame_sizes": [len(jpeg) for jpeg in clip.jpegs],
            "frame_crcs": [zlib.crc32(jpeg) for jpeg in clip.jpegs],
        }
        self._write(b"".join(member(name, data) for name, data in members))
        self._sidecar.clips.append(row)

    def reject(self, rejection: Rejection) -> None:
        """Note a clip that is left out."""
        self._sidecar.rejected.append(asdict(rejection))

    def finish(self) -> Sidecar:
        """Have the disk confirm the shard, put it in its place, and then its sidecar, which marks it as whole.

        Raises:
            OSError: If that fails; what was there before still is.
        """
        self._write(END_OF_TAR)
        assert self._file is not None
        with _told_apart(self._partial):
            confirm(self._file)
            self._file.close()
            sidecar_path(self._folder, self._number).unlink(missing_ok=True)
            put_in_place(self._partial, self._path)
        write_atomically(sidecar_path(self._folder, self._number), self._sidecar.text())
        return self._sidecar

    def abandon(self) -> None:
        """Remove what is not finished."""
        if self._file is not None:
            with suppress(OSError):  # it writes what it still has, which may be why we are here
                self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        with _told_apart(self._partial):
            self._file = self._file or new_file(self._partial)
            self._file.write(data)
        self._sidecar.tar_bytes += len(data)


def write_atomically(path: Path, data: str | bytes | npt.NDArray[Any]) -> None:
    """Write a file that is whole or not there, even after a power cut; an array as numpy stores it.

    Raises:
        OSError: If it cannot be written; what was there before still is.
    """
    with _told_apart(path), whole_file(path) as file:
        if isinstance(data, np.ndarray):
            np.save(file, data)
        else:
            file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def _told_apart(path: Path) -> Iterator[None]:
    """Say of an error in writing which file it was, and that nothing that was finished is lost."""
    try:
        yield
    except OSError as error:
        text = f"{error.strerror}; finished shards are kept, and the same command goes on"
        raise OSError(error.errno, text, str(path)) from error
