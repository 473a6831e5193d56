"""The diffusion process against its step-by-step form."""

from __future__ import annotations

import math

import pytest
import torch
from reference.diffusion import moments

from diffmavil.ops.diffusion import alphas_cumprod, q_sample

PROCESS = {"timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "rho": 0.8}


@pytest.mark.parametrize("timestep", [0, 1, 17, 500, 999])
def test_q_sample_is_the_chain_of_single_steps(timestep: int) -> None:
    factor, variance = moments(timestep, **PROCESS)
    kept = alphas_cumprod(**PROCESS)
    x_0, noise = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    drawn = q_sample(x_0, torch.full((2,), timestep), noise, kept)
    torch.testing.assert_close(drawn, factor * x_0 + math.sqrt(variance) * noise, atol=1e-5, rtol=1e-5)


def test_q_sample_keeps_unit_variance_and_uses_each_clips_step() -> None:
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(3, 100, 100, generator=generator)
    timesteps = torch.tensor([0, 300, 999])
    drawn = q_sample(x_0, timesteps, torch.randn(3, 100, 100, generator=generator), alphas_cumprod(**PROCESS))
    for clip, timestep in enumerate(timesteps.tolist()):
        factor, _ = moments(timestep, **PROCESS)
        correlation = (drawn[clip] * x_0[clip]).mean().item()
        assert abs(correlation - factor) < 0.04
        assert abs(drawn[clip].var().item() - 1) < 0.05


def test_a_smaller_rho_is_noisier() -> None:
    plain, raised = (alphas_cumprod(**{**PROCESS, "rho": rho}) for rho in (1.0, 0.8))
    assert (raised < plain).all()
    assert (raised.diff() < 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": 0}, "timesteps must be at least 1, got 0"),
        ({"rho": 0.0}, "rho must be above 0, got 0.0"),
        ({"beta_end": 1.0}, "beta_end must be in"),
    ],
)
def test_refuses_values_outside_their_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        alphas_cumprod(**{**PROCESS, **change})
