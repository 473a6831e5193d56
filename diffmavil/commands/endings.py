"""Ends of a run that come from outside of it, in a line each: its folder or a process is gone, or the disk is full."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from diffmavil.modules.folder_watch import FolderGoneError

_PEER: Final = re.compile(
    r"Connection (?:closed|reset) by peer|Broken pipe|ncclRemoteError|remote process exited|connection was reset", re.I
)
"""What gloo and NCCL say when the other end is gone."""


class LostProcessError(Exception):
    """Another process of the run is gone."""


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Run a training, and turn such ends into errors of one line.

    Raises:
        LostProcessError: If another process of the run is gone.
        FolderGoneError: If its folder is, whatever its loggers say of that as they are closed.
        OSError: If the curves could not be written.
    """
    kept: list[OSError] = []
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        if isinstance(error, OSError):
            # TensorBoard's writer keeps what stopped it, and raises it again at the next point of a curve
            raised_again = getattr(args.thread, "exception", None) is error
            if raised_again:
                kept.append(error)
                return
        before(args)

    threading.excepthook = hook
    try:
        yield
    except (RuntimeError, OSError) as error:
        for cause in _chain(error):  # what fails as the run is closed follows from it
            if isinstance(cause, FolderGoneError):
                raise cause from None
            if isinstance(cause, RuntimeError) and _PEER.search(str(cause)):
                raise LostProcessError(
                    "another process of this run is gone, and the run with it; its output or the system's log tells why"
                ) from error
        raise
    finally:
        threading.excepthook = before
    if kept:  # at the last points
        raise kept[0]


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it followed from; one that is raised twice can follow from itself."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
