"""Fixed positions as a module: computed for the grid at hand, remembered, never stored in a checkpoint."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffmavil.checks import MAX_WIDTH, check_number
from diffmavil.ops.positions import sincos_grid


class SinCosPositions(nn.Module):
    """Sine-cosine positions of chosen patches of a grid of any size.

    Args:
        embed_dim: Width D; a multiple of 16.

    Raises:
        ValueError: If ``embed_dim`` is no multiple of 16.
    """

    def __init__(self, *, embed_dim: int) -> None:
        super().__init__()
        check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
        if embed_dim % 16:
            raise ValueError(f"embed_dim must be a multiple of 16, got {embed_dim}")
        self.embed_dim = embed_dim
        self._tables: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def forward(self, grid: tuple[int, ...], ids: Int[Tensor, "B V"]) -> Float[Tensor, "B V D"]:
        """Positions of the patches ``ids`` on ``grid`` (patches along each axis, time first)."""
        key = (grid, ids.device)
        if key not in self._tables:
            self._tables[key] = sincos_grid(grid, self.embed_dim).to(ids.device)
        return self._tables[key][ids]
