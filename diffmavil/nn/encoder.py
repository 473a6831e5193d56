"""A ViT over the visible patches of one modality."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diffmavil.checks import MAX_WIDTH, check_number
from diffmavil.nn.positions import SinCosPositions
from diffmavil.nn.transformer import Transformer, init_weights
from diffmavil.ops.patches import check_patch_size, gather_patches, patch_grid, patchify, valid_patches


@dataclass
class Patches:
    """A batch of clips cut into patches.

    Args:
        values: Values of every patch.
        grid: Patches along each axis, time first.
        valid: Which patches are real, not padding; ``None`` when all are.
    """

    values: Float[Tensor, "B N P"]
    grid: tuple[int, ...]
    valid: Bool[Tensor, "B N"] | None

    @property
    def all_ids(self) -> Int[Tensor, "B N"]:
        """The ids of all patches, clip by clip."""
        count, device = self.values.shape[1], self.values.device
        return torch.arange(count, device=device).expand(len(self.values), -1)


class Encoder(nn.Module):
    """Embeds patches after masking, adds fixed positions and runs a transformer over them.

    Args:
        in_channels: Channels C of the input: 1 for a spectrogram, 3 for pictures.
        patch_size: Length of a patch along each axis, time first: frames x mel bins, or frames x height x width.
        embed_dim: Width D; a multiple of 16.
        depth: Number of blocks.
        num_heads: Heads; must divide ``embed_dim``.
        mlp_ratio: Hidden width of the MLP over D.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).

    Source: ViT, arXiv:2010.11929, on visible patches only as in MAE, arXiv:2111.06377.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        patch_size: tuple[int, ...],
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_number("in_channels", in_channels, at_least=1, limit=1000)
        check_patch_size("patch_size", patch_size, in_channels)
        check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
        self.in_channels, self.patch_size, self.embed_dim = in_channels, tuple(patch_size), embed_dim
        self.patch_values = in_channels * math.prod(patch_size)
        self.patch_embed = nn.Linear(self.patch_values, embed_dim)
        self.positions = SinCosPositions(embed_dim=embed_dim)
        self.transformer = Transformer(
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
        )
        self.apply(init_weights)

    def patchify(self, x: Float[Tensor, "B C T ..."], num_frames: Int[Tensor, " B"] | None) -> Patches:
        """Cut an input into patches.

        Args:
            x: Spectrogram or frames.
            num_frames: Real frames of each clip; ``None`` when none is padded.

        Raises:
            ValueError: If the input's size is no multiple of the patch size.
        """
        grid = patch_grid(tuple(x.shape[2:]), self.patch_size)
        valid = None if num_frames is None else valid_patches(num_frames, grid, self.patch_size[0])
        return Patches(patchify(x, self.patch_size), grid, valid)

    def forward(
        self,
        patches: Patches,
        ids: Int[Tensor, "B V"],
        valid: Bool[Tensor, "B V"] | None,
        depth: int | None = None,
    ) -> Float[Tensor, "B V D"]:
        """Encode the patches that ``ids`` names.

        Args:
            patches: The clips.
            ids: Visible patches.
            valid: Which of ``ids`` are real; ``None`` when all are.
            depth: Stop after so many blocks; ``None`` for all.
        """
        tokens: Tensor = self.patch_embed(gather_patches(patches.values, ids))
        out: Tensor = self.transformer(tokens + self.positions(patches.grid, ids), valid, depth)
        return out
