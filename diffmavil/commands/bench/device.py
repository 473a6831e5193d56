"""What a machine is, how fast it multiplies, and where the time of a step goes."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from diffmavil import __version__
from diffmavil.callbacks.compute_accounting import clock_s
from diffmavil.cores import available_cores

REPEATS: Final = 10
TOP: Final = 12
"""Operations in a profile's table."""


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions."""
    cuda = device.type == "cuda"
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
        "memory_gib": memory_bytes(device) / 2**30,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if cuda else None,
        "diffmavil": __version__,
    }


def _processor() -> str:
    """The processor's name where the system tells it, its architecture otherwise."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_bytes(device: torch.device) -> int:
    """All the memory that a device has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of a large matrix product, the best of several: what a device reaches at most.

    Args:
        device: The device.
        dtype: Type of the numbers.
    """
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    best = float("inf")
    for _ in range(REPEATS):
        start = clock_s(device)
        torch.mm(a, b)
        best = min(best, clock_s(device) - start)
    return 2 * size**3 / best


def operations(step: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """The operations in which a step spends its time.

    Args:
        step: Runs the step once.
        device: Where it runs.

    Returns:
        As :func:`longest`.
    """
    return longest(recorded(step, device), device, TOP)


def longest(events: list[Any], device: torch.device, top: int) -> list[dict[str, Any]]:
    """The operations that take most time, the longest first; on a GPU they are its kernels.

    Args:
        events: Of a step.
        device: Where it ran.
        top: How many to give.

    Returns:
        ``name``, ``calls``, ``seconds`` and ``share`` of all of the time.
    """
    times = {event.key: (event.count, self_seconds(event, device)) for event in events if runs_on(event, device)}
    total = sum(seconds for _, seconds in times.values())
    first = sorted(times.items(), key=lambda item: -item[1][1])[:top]
    return [
        {"name": name, "calls": calls, "seconds": seconds, "share": seconds / total} for name, (calls, seconds) in first
    ]


def recorded(step: Callable[[], object], device: torch.device) -> list[Any]:
    """The profiler's events of a step, those of one name added up.

    Of a GPU's step both the operations on the CPU and the kernels that they start; each has the kernels' time.

    Args:
        step: Runs the step once.
        device: Where it runs.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities, acc_events=True) as profiler:
        step()
        clock_s(device)  # the device's work included
    return list(profiler.key_averages())


def runs_on(event: Any, device: torch.device) -> bool:
    """Whether an event is work of the device itself, and not what started it there or a named span of it."""
    return bool(event.device_type.name == device.type.upper() and not event.is_user_annotation)


def self_seconds(event: Any, device: torch.device) -> float:
    """Seconds of the device in an event itself, not in others that it calls."""
    microseconds = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
    return float(microseconds) / 1e6
