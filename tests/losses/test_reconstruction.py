"""The reconstruction loss against a loop over clips and patches."""

from __future__ import annotations

import statistics

import pytest
import torch

from diffmavil.losses import reconstruction_loss


def _in_loops(prediction: list[list[list[float]]], target: list[list[list[float]]], valid: list[list[bool]]) -> float:
    errors = []
    for b in range(len(target)):
        for m in range(len(target[b])):
            if valid[b][m]:
                mean = statistics.fmean(target[b][m])
                scale = (statistics.variance(target[b][m]) + 1e-6) ** 0.5
                pairs = zip(prediction[b][m], target[b][m], strict=True)
                errors.append(statistics.fmean((p - (t - mean) / scale) ** 2 for p, t in pairs))
    return statistics.fmean(errors)


@pytest.mark.parametrize("real", [None, [5, 3, 1]])
def test_agrees_with_the_loop(real: list[int] | None) -> None:
    prediction, target = torch.randn(3, 5, 7), 4 + 3 * torch.randn(3, 5, 7)
    valid = None if real is None else torch.arange(5) < torch.tensor(real)[:, None]
    everything = torch.ones(3, 5, dtype=torch.bool)
    expected = _in_loops(prediction.tolist(), target.tolist(), (everything if valid is None else valid).tolist())
    assert reconstruction_loss(prediction, target, valid).item() == pytest.approx(expected, rel=1e-4)


def test_a_patch_without_structure_is_finite() -> None:
    assert reconstruction_loss(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 5.0)).item() == 0.0


def test_predicting_nothing_costs_the_targets_variance() -> None:
    target = torch.randn(2, 3, 101)
    assert reconstruction_loss(torch.zeros_like(target), target).item() == pytest.approx(100 / 101, rel=1e-4)
