"""Fixed sine-cosine positions of patches on a grid of any size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_SHARES = {1: (1.0,), 2: (1 / 2, 1 / 2), 3: (1 / 4, 3 / 8, 3 / 8)}


def sincos_1d(positions: Float[Tensor, " N"], dim: int) -> Float[Tensor, "N D"]:
    """Sines, then cosines, of ``positions`` at ``dim / 2`` frequencies from 1 down to 1/10000.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; halves in MAE's order (arXiv:2111.06377).

    Raises:
        ValueError: If ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}")
    frequencies = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64, device=positions.device) * 2 / dim)
    angles = positions.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(torch.float32)


def sincos_grid(grid: tuple[int, ...], dim: int) -> Float[Tensor, "N D"]:
    """Positions of all patches of a grid, time first, each axis in its own share of the channels.

    A spectrogram's two axes take half each; a video's time takes a quarter and its two axes of space three eighths.

    Source: MAE (arXiv:2111.06377) for two axes; MAViL (arXiv:2212.08071) for three.

    Raises:
        ValueError: If ``dim`` is no multiple of 16 (the smallest that all the shares divide evenly).
    """
    if dim % 16:
        raise ValueError(f"embed_dim must be a multiple of 16, got {dim}")
    parts = []
    for axis, share in enumerate(_SHARES[len(grid)]):
        along = sincos_1d(torch.arange(grid[axis], dtype=torch.float32), round(dim * share))
        shape = [1] * len(grid)
        shape[axis] = grid[axis]
        full = along.reshape(*shape, -1).expand(*grid, -1)
        parts.append(full.reshape(-1, full.shape[-1]))
    return torch.cat(parts, dim=1)


def timestep_embedding(timesteps: Float[Tensor, " B"], dim: int) -> Float[Tensor, "B D"]:
    """Sinusoidal embedding of diffusion steps.

    Source: DDPM, arXiv:2006.11239, appendix B (the transformer's positions, read at the step's number).
    """
    return sincos_1d(timesteps, dim)
