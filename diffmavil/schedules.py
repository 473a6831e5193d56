"""Numbers that change over a run, as functions of its progress in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from diffmavil.checks import check_number

_MOST: Final = 1e6

Shape = Literal["constant", "linear", "cosine", "step"]
LrRule = Literal["none", "sqrt", "linear"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A value that goes from ``start`` to ``end`` while a run goes from 0 to 1.

    Args:
        start: Value at the beginning.
        end: Value at the end; equal to ``start`` for a constant.
        shape: Straight line, half a cosine, ``steps`` equal stairs, or ``start`` throughout (``constant``).
        steps: Number of stairs, at least 2; only read by ``step``.

    Raises:
        ValueError: If ``steps`` is below 2, or a value no finite number.
    """

    start: float
    end: float
    shape: Shape = "linear"
    steps: int = 4

    def __post_init__(self) -> None:
        check_number("start", self.start, at_least=-_MOST, at_most=_MOST)
        check_number("end", self.end, at_least=-_MOST, at_most=_MOST)
        check_number("steps", self.steps, at_least=2, limit=1_000_000)

    def at(self, progress: float) -> float:
        """The value at ``progress``, clamped to [0, 1]."""
        progress = min(max(progress, 0.0), 1.0)
        match self.shape:
            case "constant":
                share = 0.0
            case "linear":
                share = progress
            case "cosine":
                share = (1 - math.cos(math.pi * progress)) / 2
            case "step":
                share = min(int(progress * self.steps), self.steps - 1) / (self.steps - 1)
        return self.start + (self.end - self.start) * share


def warmup_cosine(progress: float, *, warmup: float, end: float) -> float:
    """Factor on the peak learning rate: a straight rise over ``warmup``, then half a cosine down to ``end``.

    Args:
        progress: Share of the run that is done, clamped to [0, 1].
        warmup: Share of the run spent rising, in [0, 1).
        end: Factor at the end, in [0, 1].

    Source: SGDR, arXiv:1608.03983, as MAE (arXiv:2111.06377) uses it.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    falling = (progress - warmup) / (1 - warmup)
    return end + (1 - end) * (1 + math.cos(math.pi * falling)) / 2


def batch_size_at_constant_cost(
    *, batch_size: int, reference_cost: float, cost: float, multiple: int, limit: int
) -> int:
    """Clips a batch such that what a batch costs stays about constant.

    Args:
        batch_size: Clips a batch at ``reference_cost``.
        reference_cost: Cost of a clip for which ``batch_size`` holds, in any unit, above 0.
        cost: Cost of a clip now, above 0.
        multiple: The result is a multiple of this, cut down, and at least this.
        limit: The result is at most this.
    """
    wanted = int(batch_size * reference_cost / cost + 1e-6)
    return max(multiple, min(wanted, limit) // multiple * multiple)


def lr_scale(batch_size: int, reference: int, rule: LrRule) -> float:
    """Factor on the learning rate for another batch than the one it was chosen for.

    Args:
        batch_size: The batch in force.
        reference: The batch that the learning rate was chosen for.
        rule: In proportion (``linear``), by the square root (``sqrt``), or not at all (``none``).

    Source: Goyal et al., arXiv:1706.02677 (linear); Krizhevsky, arXiv:1404.5997 (square root).
    """
    exponent = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[rule]
    return float((batch_size / reference) ** exponent)
