"""Decoders: from visible tokens and hidden patches to predictions of the hidden ones."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diffmavil.checks import MAX_DEPTH, MAX_PATCH_VALUES, MAX_WIDTH, check_number
from diffmavil.nn.corruption import Corruption
from diffmavil.nn.positions import SinCosPositions
from diffmavil.nn.transformer import Block, CrossBlock, init_weights, layer_norm


class DecoderTrunk(nn.Module, ABC):
    """The blocks of a decoder. Subclass it to let hidden tokens see something else."""

    @abstractmethod
    def forward(
        self,
        hidden: Float[Tensor, "B M D"],
        visible: Float[Tensor, "B V D"],
        hidden_valid: Bool[Tensor, "B M"] | None,
        visible_valid: Bool[Tensor, "B V"] | None,
    ) -> Float[Tensor, "B M D"]:
        """Transform the ``hidden`` tokens by what they read from the real ones among the ``visible``."""


class SelfAttentionTrunk(DecoderTrunk):
    """All tokens, visible and hidden, attend to each other.

    Args:
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Heads; must divide ``embed_dim``.

    Source: MAE, arXiv:2111.06377; the ``joint`` decoder of DiffMAE, arXiv:2304.03283.
    """

    def __init__(self, *, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        check_number("depth", depth, at_least=0, limit=MAX_DEPTH)
        self.embed_dim = embed_dim
        self.blocks = nn.ModuleList(Block(embed_dim=embed_dim, num_heads=num_heads) for _ in range(depth))

    def forward(
        self,
        hidden: Float[Tensor, "B M D"],
        visible: Float[Tensor, "B V D"],
        hidden_valid: Bool[Tensor, "B M"] | None,
        visible_valid: Bool[Tensor, "B V"] | None,
    ) -> Float[Tensor, "B M D"]:
        """Run the blocks over both sets and return the hidden one."""
        x = torch.cat([visible, hidden], dim=1)
        valid = None
        if hidden_valid is not None and visible_valid is not None:
            valid = torch.cat([visible_valid, hidden_valid], dim=1)
        for block in self.blocks:
            x = block(x, valid)
        return x[:, visible.shape[1] :]


class CrossAttentionTrunk(DecoderTrunk):
    """Hidden tokens read from the visible ones, not from each other; the visible ones stay as they are.

    Args:
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Heads; must divide ``embed_dim``.

    Source: the ``cross`` decoder of DiffMAE, arXiv:2304.03283; CrossMAE, arXiv:2401.14391.
    """

    def __init__(self, *, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        check_number("depth", depth, at_least=0, limit=MAX_DEPTH)
        self.embed_dim = embed_dim
        self.norm = layer_norm(embed_dim)
        self.blocks = nn.ModuleList(CrossBlock(embed_dim=embed_dim, num_heads=num_heads) for _ in range(depth))

    def forward(
        self,
        hidden: Float[Tensor, "B M D"],
        visible: Float[Tensor, "B V D"],
        hidden_valid: Bool[Tensor, "B M"] | None,
        visible_valid: Bool[Tensor, "B V"] | None,
    ) -> Float[Tensor, "B M D"]:
        """Run the blocks over the hidden tokens."""
        context = self.norm(visible)
        for block in self.blocks:
            hidden = block(hidden, context, visible_valid)
        return hidden


class Decoder(nn.Module):
    """Predicts hidden patches from the encoder's visible tokens and what the corruption leaves of them.

    Args:
        encoder_dim: Width of the visible tokens as they come.
        embed_dim: Width of the decoder; a multiple of 16.
        patch_values: Values P of a patch.
        corruption: What stands in place of a hidden patch.
        trunk: The blocks.
    """

    def __init__(
        self,
        *,
        encoder_dim: int,
        embed_dim: int,
        patch_values: int,
        corruption: Corruption,
        trunk: DecoderTrunk,
    ) -> None:
        super().__init__()
        check_number("encoder_dim", encoder_dim, at_least=1, limit=MAX_WIDTH)
        check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
        check_number("patch_values", patch_values, at_least=1, limit=MAX_PATCH_VALUES)
        self.embed_dim = embed_dim
        self.embed_visible = nn.Linear(encoder_dim, embed_dim)
        self.positions = SinCosPositions(embed_dim=embed_dim)
        self.corruption = corruption
        self.trunk = trunk
        self.norm = layer_norm(embed_dim)
        self.head = nn.Linear(embed_dim, patch_values)
        for part in (self.embed_visible, self.trunk, self.head):
            part.apply(init_weights)

    def forward(
        self,
        *,
        visible: Float[Tensor, "B V E"],
        tokens: Float[Tensor, "B M D"],
        grid: tuple[int, ...],
        ids_keep: Int[Tensor, "B V"],
        ids_decode: Int[Tensor, "B M"],
        visible_valid: Bool[Tensor, "B V"] | None,
        hidden_valid: Bool[Tensor, "B M"] | None,
    ) -> Float[Tensor, "B M P"]:
        """Predict the patches ``ids_decode``.

        Args:
            visible: Encoder output for ``ids_keep``.
            tokens: What the corruption made of ``ids_decode``.
            grid: Patches along each axis, time first.
            ids_keep: Visible patches.
            ids_decode: Patches to predict.
            visible_valid: Which visible patches are real; ``None`` when all are.
            hidden_valid: Which hidden patches are real; ``None`` when all are.
        """
        seen: Tensor = self.embed_visible(visible)
        seen = seen + self.positions(grid, ids_keep)
        hidden = tokens + self.positions(grid, ids_decode)
        out: Tensor = self.head(self.norm(self.trunk(hidden, seen, hidden_valid, visible_valid)))
        return out
