"""The forward process of denoising diffusion: how a clean patch becomes a noisy one."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from diffmavil.checks import check_number


def alphas_cumprod(*, timesteps: int, beta_start: float, beta_end: float, rho: float) -> Float[Tensor, " T"]:
    """Share of the clean signal's variance that is left after each step.

    ``betas`` grow linearly from ``beta_start`` to ``beta_end``, each raised to the power ``rho`` (below 1: more noise).

    Source: DDPM, arXiv:2006.11239, section 2 and 4; the exponent from DiffMAE, arXiv:2304.03283.

    Raises:
        ValueError: If ``timesteps`` is below 1, ``rho`` not above 0, or a beta outside (0, 1).
    """
    check_number("timesteps", timesteps, at_least=1, limit=1_000_000)
    check_number("rho", rho, above=0, limit=1000)
    check_number("beta_start", beta_start, above=0, below=1)
    check_number("beta_end", beta_end, at_least=beta_start, below=1)
    betas = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64) ** rho
    return (1 - betas).cumprod(0).to(torch.float32)


def q_sample(
    x_0: Float[Tensor, "B M P"],
    timesteps: Int[Tensor, " B"],
    noise: Float[Tensor, "B M P"],
    alphas_cumprod: Float[Tensor, " T"],
) -> Float[Tensor, "B M P"]:
    """Draw x_t given x_0: ``sqrt(a_t) x_0 + sqrt(1 - a_t) noise`` with a_t the cumulative product of 1 - beta.

    Args:
        x_0: Clean values.
        timesteps: Step of each clip, from 0 (least noise) to T - 1 (most).
        noise: Standard normal draws.
        alphas_cumprod: The schedule, of T steps.

    Source: DDPM, arXiv:2006.11239, equation 4.
    """
    kept = rearrange(alphas_cumprod[timesteps], "b -> b 1 1")
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise
