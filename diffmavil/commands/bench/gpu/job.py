"""What a part of the page is given, and how it hands over what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffmavil.commands.bench.settings import GpuSettings
from diffmavil.cores import available_cores


@dataclass(frozen=True, kw_only=True)
class Job:
    """A part's work.

    Args:
        settings: What to measure.
        found: Figures of the parts before, by part.
        folder: Where all parts may leave files for each other.
        begin: When the part began, by ``time.monotonic``.
        limit_s: Seconds after that at which it is ended.
        keep: Hands over figures as soon as they are there.
    """

    settings: GpuSettings
    found: dict[str, dict[str, Any]]
    folder: Path
    begin: float
    limit_s: float
    keep: Callable[[dict[str, Any]], None]

    @property
    def device(self) -> torch.device:
        """The device."""
        return torch.device(self.settings.device)

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.begin + self.limit_s - time.monotonic()

    @property
    def workers(self) -> int:
        """Processes that make and read clips."""
        return self.settings.workers or max(1, min(16, available_cores()) - 1)

    @property
    def peak_flops_per_s(self) -> float | None:
        """The measured peak, if it was measured."""
        peak: float | None = self.found.get("device", {}).get("matmul_flops_per_s")
        return peak
