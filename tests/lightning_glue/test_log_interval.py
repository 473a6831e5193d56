"""How often a run logs."""

from __future__ import annotations

from math import inf

import pytest

from diffmavil.lightning_glue.log_interval import log_interval


@pytest.mark.parametrize("steps", [1, 34, 49, 50, 99, 100, 1000, 2499, 2500, 10**7])
def test_curves_have_fifty_points_where_there_are_as_many_steps(steps: float) -> None:
    interval = log_interval(steps)
    assert 1 <= interval <= 50
    assert steps // interval >= min(steps, 50)
    assert interval == log_interval(inf) == 50 or steps // (interval + 1) < 50, "no more often than that"
