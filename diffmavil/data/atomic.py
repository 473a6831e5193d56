"""Files that are whole or not there, even after a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def partial_of(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(path.name + ".part")


@contextmanager
def whole_file(path: Path, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write into, which takes its place when all is written.

    Args:
        path: The file; its folder is made if missing.
        partial: Where it is until then, in the same folder; by default ``partial_of(path)``.

    Raises:
        OSError: If it cannot be written; what was there before still is.
    """
    partial = partial or partial_of(path)
    make_folder(path.parent)
    try:
        with new_file(partial) as file:
            yield file
            confirm(file)
        put_in_place(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def new_file(path: Path) -> IO[bytes]:
    """Open a file to write into, in place of whatever has its name: no link is followed, no pipe waited at.

    Raises:
        OSError: If it cannot be made.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def confirm(file: IO[bytes]) -> None:
    """Have the disk confirm what was written into a file.

    Raises:
        OSError: If it does not.
    """
    file.flush()
    os.fsync(file.fileno())


def put_in_place(partial: Path, path: Path) -> None:
    """Give a file that the disk has confirmed its own name, and have the disk confirm that too.

    Raises:
        OSError: If that fails.
    """
    partial.replace(path)
    _confirm_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those that it lies in, where they are missing, and have the disk confirm them.

    Raises:
        OSError: If that fails.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _confirm_folder(folder.parent)


def _confirm_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that do not do that for folders
            raise
    finally:
        os.close(handle)
