"""Random masking that knows which patches are padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffmavil.checks import check_number


@dataclass
class Masking:
    """Which patches of each clip are seen and which are hidden.

    Args:
        ids_keep: Visible patches, in random order.
        ids_mask: Masked patches, in random order.
        keep_valid: Which of ``ids_keep`` are real patches, not padding; ``None`` when all are.
        mask_valid: The same for ``ids_mask``.
    """

    ids_keep: Int[Tensor, "B V"]
    ids_mask: Int[Tensor, "B M"]
    keep_valid: Bool[Tensor, "B V"] | None
    mask_valid: Bool[Tensor, "B M"] | None


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Visible patches of a clip of ``num_patches``: ``num_patches * (1 - mask_ratio)`` cut down, at least one.

    Raises:
        ValueError: If ``mask_ratio`` is outside [0, 1).
    """
    check_number("mask_ratio", mask_ratio, at_least=0, below=1)
    return max(1, int(num_patches * (1 - mask_ratio) + 1e-6))


def random_masking(noise: Float[Tensor, "B N"], mask_ratio: float, valid: Bool[Tensor, "B N"] | None = None) -> Masking:
    """Hide a random ``mask_ratio`` of the patches of each clip.

    Every clip keeps the same number V of slots. Of a clip with n real patches, ``num_visible(n)`` are visible and the
    other real ones masked; the slots that remain are filled with padding and marked as such.

    Args:
        noise: One uniform draw in [0, 1) a patch; its order is the random order.
        mask_ratio: Share of the patches to hide, in [0, 1).
        valid: Which patches are real; ``None`` when all are.

    Source: MAE, arXiv:2111.06377 (argsort of uniform noise); the treatment of padding is ours.

    Raises:
        ValueError: If ``mask_ratio`` is outside [0, 1).
    """
    num_keep = num_visible(noise.shape[1], mask_ratio)
    if valid is None:
        order = noise.argsort(dim=1)
        return Masking(order[:, :num_keep], order[:, num_keep:], None, None)
    # Sort key: [0, 1) visible, [1, 2) padding that fills up the visible slots, [2, 3) masked, [3, 4) other padding.
    rank = noise.masked_fill(~valid, 2.0).argsort(dim=1).argsort(dim=1)
    count = valid.sum(dim=1, keepdim=True)
    visible = (count.double() * (1 - mask_ratio) + 1e-6).long().clamp(min=1)
    filler = (rank >= count) & (rank < count + num_keep - visible)
    key = noise + torch.where(filler, 1.0, torch.where(rank < visible, 0.0, torch.where(valid, 2.0, 3.0)))
    order = key.argsort(dim=1)
    real = valid.gather(1, order)
    return Masking(order[:, :num_keep], order[:, num_keep:], real[:, :num_keep], real[:, num_keep:])
