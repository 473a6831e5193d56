"""Keeping other processes of this machine out while something is written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock on a file, which is made if missing; it ends with this process, however that ends.

    On file systems that know no locks, nobody is kept out.

    Args:
        path: The file.
        wait: Whether to wait for another process to let go of it.

    Raises:
        BlockingIOError: If another process holds it, and ``wait`` is false.
    """
    # no waiting at a pipe that has the name
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    with os.fdopen(handle, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
