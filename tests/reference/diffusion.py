"""The forward process of DDPM one step after the other (arXiv:2006.11239, equation 2)."""

from __future__ import annotations

import math


def moments(timestep: int, timesteps: int, beta_start: float, beta_end: float, rho: float) -> tuple[float, float]:
    """Factor on the clean value and variance of the noise after steps 0 .. ``timestep``.

    Each step maps x to sqrt(1 - beta) x + sqrt(beta) e with fresh standard normal e.
    """
    factor, variance = 1.0, 0.0
    for s in range(timestep + 1):
        beta = beta_start + (beta_end - beta_start) * s / (timesteps - 1)
        beta = beta**rho
        factor = factor * math.sqrt(1 - beta)
        variance = variance * (1 - beta) + beta
    return factor, variance
