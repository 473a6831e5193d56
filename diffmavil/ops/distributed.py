"""Gather embeddings from every rank, with gradient."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gather_ranks(x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "R D"], int]:
    """Rows of all ranks in rank order, and the place at which this rank's own begin.

    The gradient of every rank's loss flows back into every rank's rows. Without an initialised process group it
    returns ``x`` itself and 0. All ranks must hold the same number of rows.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x, 0
    rows = torch.cat(list(all_gather(x.contiguous())), dim=0)  # type: ignore[no-untyped-call]
    return rows, torch.distributed.get_rank() * x.shape[0]
