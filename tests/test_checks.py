from __future__ import annotations

import math
from typing import Any

import pytest

from diffmavil.checks import check_number

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "rule"),
    [
        ({}, [0.0, -1e300], [NAN, INF, -INF], "a finite number"),
        ({"at_least": 0}, [0, 5.0], [-1e-9, NAN, INF], "at least 0"),
        ({"above": 0}, [1e-9], [0, NAN, INF], "above 0"),
        ({"at_most": 3}, [3, -5], [3.1, NAN, -INF], "at most 3"),
        ({"below": 3}, [2.9], [3, NAN], "below 3"),
        ({"at_least": 0, "below": 1}, [0, 0.99], [1, -0.1, NAN, INF], "in [0, 1)"),
        ({"above": 0, "at_most": 1}, [1, 0.1], [0, 1.1, NAN], "in (0, 1]"),
    ],
)
def test_a_number_is_finite_and_in_its_range(
    bounds: dict[str, Any], inside: list[float], outside: list[float], rule: str
) -> None:
    for value in inside:
        check_number("x", value, **bounds)
    for value in outside:
        with pytest.raises(ValueError) as refused:
            check_number("x", value, **bounds)
        assert str(refused.value) == f"x must be {rule}, got {value}"
