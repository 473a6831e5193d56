"""How several processes of a run end: in order, and none of them alone."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

import torch.distributed as dist

_LAUNCHER: Final = "DIFFMAVIL_LAUNCHER_PID"
"""Environment variable by which the first process tells the others its id."""


def end_with_launcher(*, every_s: float = 1.0) -> None:
    """Leave no process behind: without the first, the others may wait for it until a timeout of half an hour.

    Lightning's launcher looks after the processes that it started, but none of them looks after it. torchrun and SLURM
    look after all of theirs themselves.

    Args:
        every_s: How often to look, in seconds.
    """
    parent = os.getppid()
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ[_LAUNCHER] = str(os.getpid())
    elif os.environ.get(_LAUNCHER) == str(parent):  # and not left over from an earlier run in this environment
        threading.Thread(target=_watch, args=(parent, every_s), name="launcher-watch", daemon=True).start()


def leave_group() -> None:
    """Close the connections to the other processes, if any, after all that they do together.

    A process that ends without may be aborted by threads that still serve them.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _watch(launcher: int, every_s: float) -> None:
    while os.getppid() == launcher:
        time.sleep(every_s)
    os._exit(1)  # the main thread may wait in a collective, where it hears no exception
