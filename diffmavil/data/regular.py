"""Opening files that may come from a stranger: no pipe to wait at, no device without an end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO


def open_regular(path: Path) -> int:
    """Open a file for reading if it is a regular one, or a link to one.

    Args:
        path: The file.

    Returns:
        Its descriptor, to be closed by the caller.

    Raises:
        OSError: If it cannot be opened, or if it is a folder, a pipe, a socket or a device.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # no waiting at a pipe
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def regular_file(path: Path) -> IO[bytes]:
    """The same as a file object.

    Raises:
        OSError: If it cannot be opened or is no regular file.
    """
    return os.fdopen(open_regular(path), "rb")


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """All of a regular file, if it is not too large.

    Args:
        path: The file.
        max_bytes: Most that it may have.

    Raises:
        OSError: If it cannot be read, is no regular file, or has more.
    """
    with regular_file(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
    return data
