"""One rule for every number that a user gives: it is finite and in its range, or the message says which range."""

from __future__ import annotations

import math
from typing import Final

MAX_SEED: Final = 2**32 - 1
"""Largest seed that NumPy and scikit-learn take."""

MAX_WORKERS: Final = 1024
"""Most processes that a command starts."""

MAX_BATCH: Final = 1_000_000
"""Most clips of a batch."""

MAX_CLIPS: Final = 100_000_000
"""Most clips of a data set."""

MAX_TIMEOUT_S: Final = 86400.0
"""Longest that anything is waited for: a day."""

MAX_EPOCHS: Final = 1_000_000
"""Most epochs of a training."""

MAX_WIDTH: Final = 16384
"""Widest layer."""

MAX_DEPTH: Final = 1000
"""Most blocks, one after the other."""

MAX_PATCH_VALUES: Final = 65536
"""Most values of a patch."""


def check_number(
    name: str,
    value: int | float | None,
    *,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
    limit: int | float | None = None,
    optional: bool = False,
) -> None:
    """Refuse a number that is NaN, infinite or outside its range.

    Args:
        name: The number's name, as the user writes it.
        value: The number.
        at_least: Smallest value allowed.
        above: Value that it must exceed, in place of ``at_least``.
        at_most: Largest value allowed.
        below: Value that it must stay below, in place of ``at_most``.
        limit: Largest value that makes sense, far beyond what is in use, lest a slip of the pen make work or memory
            without end; in place of ``at_most``, and only spoken of where it is exceeded.
        optional: Whether ``None`` fits too.

    Raises:
        ValueError: Naming the number, its rule and the value, such as ``mask_ratio must be in [0, 1), got 1.2``.
    """
    if value is None:
        if optional:
            return
        raise ValueError(f"{name} must be a number, got null")
    if limit is not None and value > limit:
        raise ValueError(f"{name} must be at most {limit:.10g}, got {value}")
    is_inside = (
        (isinstance(value, int) or math.isfinite(value))  # an int may be too large for isfinite
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if is_inside:
        return
    has_low, has_high = at_least is not None or above is not None, at_most is not None or below is not None
    low, high = at_least if above is None else above, at_most if below is None else below
    if has_low and has_high:
        rule = f"in {'[' if above is None else '('}{low:.10g}, {high:.10g}{']' if below is None else ')'}"
    elif has_low:
        rule = f"{'at least' if above is None else 'above'} {low:.10g}"
    elif has_high:
        rule = f"{'at most' if below is None else 'below'} {high:.10g}"
    else:
        rule = "a finite number"
    raise ValueError(f"{name} must be {rule}, got {value}")


def check_seed(name: str, value: int) -> None:
    """Refuse a seed that some generator of random numbers does not take.

    Args:
        name: The seed's name, as the user writes it.
        value: The seed.

    Raises:
        ValueError: If it is outside [0, 2**32 - 1].
    """
    check_number(name, value, at_least=0, limit=MAX_SEED)


def check_betas(value: tuple[float, float]) -> None:
    """Refuse decay rates that AdamW does not take.

    Args:
        value: Those of the first and the second moment.

    Raises:
        ValueError: If one of them is outside [0, 1).
    """
    for beta in (math.nan,) if value is None else value:
        if not (math.isfinite(beta) and 0 <= beta < 1):
            raise ValueError(f"betas must be in [0, 1), got {value}")
