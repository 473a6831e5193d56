"""One rule for every number that a user gives: it is finite and in its range, or the message says which range."""

from __future__ import annotations

import math


def check_number(
    name: str,
    value: int | float,
    *,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
) -> None:
    """Refuse a number that is NaN, infinite or outside its range.

    Args:
        name: The number's name, as the user writes it.
        value: The number.
        at_least: Smallest value allowed.
        above: Value that it must exceed, in place of ``at_least``.
        at_most: Largest value allowed.
        below: Value that it must stay below, in place of ``at_most``.

    Raises:
        ValueError: Naming the number, its rule and the value, such as ``mask_ratio must be in [0, 1), got 1.2``.
    """
    is_inside = (
        math.isfinite(value)
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
        rule = f"in {'[' if above is None else '('}{low:g}, {high:g}{']' if below is None else ')'}"
    elif has_low:
        rule = f"{'at least' if above is None else 'above'} {low:g}"
    elif has_high:
        rule = f"{'at most' if below is None else 'below'} {high:g}"
    else:
        rule = "a finite number"
    raise ValueError(f"{name} must be {rule}, got {value}")
