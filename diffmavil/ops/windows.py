"""Several windows of a long clip, taken together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean_of_windows(values: Float[Tensor, "W D"], index: Int[Tensor, " W"]) -> Float[Tensor, "B D"]:
    """Mean over the windows of each clip, which stand next to each other.

    Args:
        values: A row for each window.
        index: The clip that each window is of.
    """
    _, clip, counts = torch.unique_consecutive(index, return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(counts), values.shape[1]).index_add(0, clip, values)
    means: Tensor = sums / counts[:, None]
    return means


def first_windows(index: Int[Tensor, " W"]) -> Int[Tensor, " B"]:
    """Row of the first window of each clip; see :func:`mean_of_windows`."""
    _, counts = torch.unique_consecutive(index, return_counts=True)
    first: Tensor = counts.cumsum(0) - counts
    return first
