"""InfoNCE against loops over pairs, and at values known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from reference.info_nce import info_nce as in_loops

from diffmavil.losses import info_nce


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize(("rows", "dim"), [(2, 3), (5, 7), (11, 3)])
def test_agrees_with_the_loops(rows: int, dim: int, temperature: float) -> None:
    x, y = torch.randn(rows, dim), torch.randn(rows, dim)
    expected = in_loops(x.tolist(), y.tolist(), temperature)
    assert info_nce(x, y, temperature=temperature).item() == pytest.approx(expected, rel=1e-4)


def test_is_log_n_when_nothing_can_be_told_apart() -> None:
    same = torch.ones(13, 5)
    assert info_nce(same, same, temperature=0.1).item() == pytest.approx(math.log(13), rel=1e-5)


def test_orthogonal_pairs_have_a_closed_form() -> None:
    eye = torch.eye(7)
    expected = math.log(math.exp(1 / 0.5) + 6) - 1 / 0.5
    assert info_nce(eye, 3 * eye, temperature=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_is_symmetric_and_blind_to_length() -> None:
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    forward = info_nce(x, y, temperature=0.1)
    torch.testing.assert_close(forward, info_nce(y, x, temperature=0.1))
    torch.testing.assert_close(forward, info_nce(7 * x, 0.1 * y, temperature=0.1))


def test_is_computed_in_float32_under_autocast() -> None:
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = info_nce(x.bfloat16(), y.bfloat16(), temperature=0.01)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, info_nce(x.bfloat16().float(), y.bfloat16().float(), temperature=0.01))
