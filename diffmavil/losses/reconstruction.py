"""Mean squared error on masked patches against targets normalised patch by patch."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffmavil.ops.distributed import mean_over_ranks


def patch_statistics(
    patches: Float[Tensor, "B M P"],
) -> tuple[Float[Tensor, "B M 1"], Float[Tensor, "B M 1"]]:
    """Mean and scale of each patch: the square root of its variance plus 1e-6.

    Source: MAE, arXiv:2111.06377, section 3 (reconstruction target).
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def reconstruction_loss(
    prediction: Float[Tensor, "B M P"],
    target: Float[Tensor, "B M P"],
    valid: Bool[Tensor, "B M"] | None = None,
    *,
    across_ranks: bool = True,
) -> Float[Tensor, ""]:
    """Mean over real patches of the squared distance to the normalised target; computed in float32.

    Args:
        prediction: What the decoder says.
        target: Clean values of the patches, not normalised yet.
        valid: Which patches are real, not padding; ``None`` when all are.
        across_ranks: Divide by the ranks' mean number of real patches, as in training, so that a patch weighs the same
            on every rank and the mean of the ranks' losses is the loss of all their clips; all ranks must then call it.

    Source: MAE, arXiv:2111.06377.
    """
    with torch.autocast(device_type=prediction.device.type, enabled=False):
        if prediction.numel() == 0:  # nothing is masked at a ratio of 0, on any rank
            return prediction.float().sum()
        mean, scale = patch_statistics(target.float())
        error = (prediction.float() - (target.float() - mean) / scale).square().mean(-1)
        real = torch.ones_like(error) if valid is None else valid.to(error.dtype)
        count = mean_over_ranks(real.sum()) if across_ranks else real.sum()
        return (error * real).sum() / count.clamp(min=torch.finfo(count.dtype).eps)
