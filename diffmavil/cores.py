"""The processor cores that there are to work on."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores that this process may use; of the machine where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def leave_cores(num_workers: int) -> None:
    """Compute on no more threads than there are cores left beside data workers.

    Threads that wait for a core which a data worker holds slow each step down several times over.

    Args:
        num_workers: Processes that decode.
    """
    import torch  # here, for commands that only ask for the cores

    torch.set_num_threads(min(torch.get_num_threads(), max(1, available_cores() - num_workers)))
