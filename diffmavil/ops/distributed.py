"""What the ranks of a run exchange: embeddings with gradient, counts, flags, findings."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed.nn.functional import all_gather

T = TypeVar("T")


def gather_ranks(x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "R D"], int]:
    """Rows of all ranks in rank order, and the place at which this rank's own begin.

    The gradient of every rank's loss flows back into every rank's rows. Without an initialised process group it
    returns ``x`` itself and 0. All ranks must hold the same number of rows.
    """
    if not several_ranks():
        return x, 0
    rows = torch.cat(list(all_gather(x.contiguous())), dim=0)  # type: ignore[no-untyped-call]
    return rows, torch.distributed.get_rank() * x.shape[0]


def mean_over_ranks(x: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Mean of the ranks' values, without gradient; ``x`` itself without an initialised process group."""
    if not several_ranks():
        return x
    total = x.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def any_rank(flag: Bool[Tensor, ""]) -> bool:
    """Whether ``flag`` is true on any rank. All ranks must ask; the answer waits for the device."""
    if not several_ranks():
        return bool(flag)
    count = flag.int()
    torch.distributed.all_reduce(count)
    return bool(count)


def gather_objects(own: T) -> list[T]:
    """What each rank has, in rank order. All ranks must ask."""
    if not several_ranks():
        return [own]
    found: list[T] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found


def several_ranks() -> bool:
    """Whether there is a process group, if only of one."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
