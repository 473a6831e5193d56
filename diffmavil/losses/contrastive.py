"""InfoNCE between two sets of embeddings, with negatives from every rank."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from diffmavil.ops.distributed import gather_ranks


def info_nce(
    x: Float[Tensor, "B D"], y: Float[Tensor, "B D"], *, temperature: float, across_ranks: bool = True
) -> Float[Tensor, ""]:
    """How well each row of ``x`` picks out its own row of ``y`` among all, and the reverse; mean of both directions.

    Cosine similarity over ``temperature``; computed in float32. At chance it is the logarithm of the number of rows.

    Args:
        x: Embeddings of one side.
        y: Embeddings of the other; row i belongs to row i of ``x``.
        temperature: Above 0; the smaller, the more the hardest negatives count.
        across_ranks: Take negatives from every rank, as in training; each must then hold the same number of rows.

    Source: CPC, arXiv:1807.03748, equation 4; symmetric as in MAViL, arXiv:2212.08071, equation 3.
    """
    with torch.autocast(device_type=x.device.type, enabled=False):
        x, y = normalize(x.float(), dim=1), normalize(y.float(), dim=1)
        (all_x, first), (all_y, _) = (gather_ranks(x), gather_ranks(y)) if across_ranks else ((x, 0), (y, 0))
        own = torch.arange(first, first + len(x), device=x.device)
        forward = cross_entropy(x @ all_y.T / temperature, own)
        backward = cross_entropy(y @ all_x.T / temperature, own)
        return (forward + backward) / 2
