"""Positions against the formula in loops."""

from __future__ import annotations

import math

import pytest
import torch

from diffmavil.ops.positions import sincos_grid


def _axis(position: int, dim: int) -> list[float]:
    angles = [position / 10000 ** (2 * i / dim) for i in range(dim // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


@pytest.mark.parametrize(("grid", "shares"), [((3, 5), (24, 24)), ((2, 3, 5), (12, 18, 18))])
def test_each_axis_has_its_share_of_channels(grid: tuple[int, ...], shares: tuple[int, ...]) -> None:
    table = sincos_grid(grid, 48)
    row = 0
    for t in range(grid[0]):
        for h in range(grid[1]):
            for w in range(grid[2]) if len(grid) == 3 else [None]:
                place = (t, h) if w is None else (t, h, w)
                expected = [v for p, dim in zip(place, shares, strict=True) for v in _axis(p, dim)]
                torch.testing.assert_close(table[row], torch.tensor(expected), atol=1e-6, rtol=1e-5)
                row += 1
    assert row == len(table)


def test_a_longer_clip_begins_with_the_positions_of_a_shorter_one() -> None:
    assert torch.equal(sincos_grid((4, 8), 32)[: 2 * 8], sincos_grid((2, 8), 32))


def test_refuses_a_width_that_the_axes_cannot_share() -> None:
    with pytest.raises(ValueError, match="embed_dim must be a multiple of 16, got 24"):
        sincos_grid((2, 2), 24)
