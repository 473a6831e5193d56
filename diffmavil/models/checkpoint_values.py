"""Whether single values in a checkpoint are what they should be."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says which one and why, in one line."""


PART: Final = 2**22
"""Elements that are looked at together, so that looking takes little memory."""

FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def shown(value: Any) -> str:
    """A value in a few words, however large or twisted it is."""
    if value is None or isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 65 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        return repr(value[:60]) + "..." * (len(value) > 60)
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"[:80]
    return f"a {type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else f"a {type(value).__name__}"


def check_tensor(value: Any, *, like: Tensor, key: str, name: str, least: float | None = None) -> None:
    """Refuse what is no dense tensor of finite numbers that is as large as it says and of the shape of another.

    Args:
        value: What a checkpoint has.
        like: A tensor of the right shape; and of the right dtype, where it is not a floating-point one.
        key: Where the checkpoint has it.
        name: Beginning of the message.
        least: Smallest number allowed.

    Raises:
        CheckpointError: If so.
    """
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{name}: {key} must be a tensor, got {shown(value)}")
    if value.shape != like.shape:
        raise CheckpointError(f"{name}: {key} is {tuple(value.shape)}, not {tuple(like.shape)}")
    if value.dtype != like.dtype and not (value.dtype in FLOATS and like.dtype in FLOATS):
        raise CheckpointError(f"{name}: {key} is of {value.dtype}, not {like.dtype}")
    if value.layout != torch.strided or value.device.type == "meta":
        raise CheckpointError(f"{name}: {key} must be a dense tensor, got {value.layout} on {value.device}")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise CheckpointError(f"{name}: {key} is {tuple(value.shape)}, but holds fewer numbers than that")
    if value.dtype not in FLOATS or not value.numel():
        return
    for part in torch.split(value.detach().reshape(-1), PART):
        low, high = (x.item() for x in part.aminmax())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise CheckpointError(f"{name}: {key} holds infinite numbers or NaN")
        if least is not None and low < least:
            raise CheckpointError(f"{name}: {key} must be at least {least:g}, got {low:g}")
