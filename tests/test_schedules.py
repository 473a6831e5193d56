"""Schedules at values that can be written down."""

from __future__ import annotations

import math

import pytest

from diffmavil.schedules import Schedule, batch_size_at_constant_cost, warmup_cosine


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [0.9, 0.875, 0.85, 0.825, 0.8]),
        ("cosine", [0.9, 0.9 - 0.05 * (1 - math.sqrt(0.5)), 0.85, 0.8 + 0.05 * (1 - math.sqrt(0.5)), 0.8]),
        ("step", [0.9, 0.9 - 0.1 / 3, 0.9 - 0.2 / 3, 0.8, 0.8]),
        ("constant", [0.9, 0.9, 0.9, 0.9, 0.9]),
    ],
)
def test_a_schedule_goes_from_start_to_end(shape: str, expected: list[float]) -> None:
    schedule = Schedule(start=0.9, end=0.8, shape=shape)
    assert [schedule.at(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(expected)
    assert schedule.at(-1.0) == schedule.at(0.0)
    assert schedule.at(2.0) == schedule.at(1.0)


def test_warmup_rises_then_falls_to_the_end() -> None:
    values = [warmup_cosine(p, warmup=0.2, end=0.1) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert values == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    assert warmup_cosine(0.0, warmup=0.0, end=0.0) == 1


def test_the_batch_keeps_its_visible_tokens() -> None:
    size = batch_size_at_constant_cost(batch_size=64, reference_cost=200.0, cost=100.0, multiple=8, limit=1000)
    assert size == 128
    for tokens in range(100, 200, 7):
        size = batch_size_at_constant_cost(
            batch_size=64, reference_cost=200.0, cost=float(tokens), multiple=8, limit=1000
        )
        assert size % 8 == 0
        assert 0 <= 64 * 200 - size * tokens < 8 * tokens
    bounds = {"batch_size": 64, "reference_cost": 200.0, "cost": 10.0, "multiple": 8}
    assert batch_size_at_constant_cost(**bounds, limit=100) == 96


def test_refuses_a_staircase_of_one_step() -> None:
    with pytest.raises(ValueError, match="steps must be at least 2, got 1"):
        Schedule(start=0.9, end=0.8, shape="step", steps=1)
