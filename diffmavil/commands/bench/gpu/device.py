"""Part ``device``: what the machine is, and what it reaches at most."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import torch

from diffmavil.callbacks.compute_accounting import clock_s
from diffmavil.commands.bench.device import machine, matmul_flops_per_s
from diffmavil.commands.bench.gpu.job import Job

_PACKAGES: Final = ("lightning", "torchvision", "torchaudio", "timm", "triton", "numpy", "av", "pytest")
_COPIES: Final = 10


def measure(job: Job) -> None:
    """Note device, driver, versions, a large matrix product's FLOPs a second and a copy's bytes a second."""
    device = job.device
    job.keep({"machine": machine(device), "driver": _driver(), "system": platform.platform(), "packages": _versions()})
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        job.keep({"capability": f"{known.major}.{known.minor}", "multiprocessors": known.multi_processor_count})
    dtype = torch.bfloat16 if job.settings.device == "cuda" else torch.float32
    job.keep({"dtype": str(dtype).removeprefix("torch."), "matmul_flops_per_s": matmul_flops_per_s(device, dtype)})
    job.keep({"copy_bytes_per_s": _copy_bytes_per_s(device)})


def _driver() -> str | None:
    """The driver's version, where its own program tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _copy_bytes_per_s(device: torch.device) -> float:
    """Bytes that are read and written a second, the best of several copies within the device's memory."""
    size = 2**32 if device.type == "cuda" else 2**26
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(_COPIES + 1):
        start = clock_s(device)
        target.copy_(source)
        best = min(best, clock_s(device) - start)
    return 2 * size / best
