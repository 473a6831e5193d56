"""A batch put through a network in two halves, for memory that does not hold it whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffmavil.types import Batch

T = TypeVar("T")


class BatchTooLargeError(Exception):
    """The device's memory does not hold a training step, and it cannot be made smaller."""


def in_halves(network: Callable[[Batch], T], batch: Batch) -> T:
    """What ``network`` makes of a batch, with the activations of one half of it in memory at a time.

    Of the first half no activations are kept; the backward pass, which begins with the second half, computes them
    again, which costs half a forward pass. A loss on the result is one over the whole batch, with all its negatives,
    and so is its gradient. What is drawn at random is drawn for each half.

    Args:
        network: Gives a tensor, or a dataclass of tensors, of one row a clip.
        batch: Two clips or more.

    Source: Chen et al., arXiv:1604.06174 (recomputation); Gao et al., arXiv:2101.06983 (a contrastive batch in parts).
    """
    middle = -(-len(batch.index) // 2)
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    names = [name for name, value in values.items() if value is not None]

    def run(*tensors: Tensor) -> T:
        return network(Batch(**dict(zip(names, tensors, strict=True))))

    # By its tensors, not by its Batch, checkpoint finds the device whose random numbers it must draw again.
    first: T = checkpoint(run, *(values[name][:middle] for name in names), use_reentrant=False)
    joined: T = _joined(first, run(*(values[name][middle:] for name in names)))
    return joined


def _joined(first: Any, second: Any) -> Any:
    """Two results of the same make, end to end: tensors, lists and dataclasses of them, ``None``."""
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    if isinstance(first, list):
        return [_joined(*pair) for pair in zip(first, second, strict=True)]
    names = [field.name for field in fields(first)]
    return type(first)(**{name: _joined(getattr(first, name), getattr(second, name)) for name in names})
