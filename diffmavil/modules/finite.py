"""A training ends at the first loss or gradient that is infinite or no number, before it reaches the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import lightning as L
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from diffmavil import keys
from diffmavil.ops.distributed import any_rank, gather_objects

SHOWN: Final = 3
"""Clips that the message names."""


class NotFiniteError(Exception):
    """A loss or a gradient is infinite or no number."""


def stop_where_not_finite(module: L.LightningModule, loss: Float[Tensor, ""], index: Int[Tensor, " B"]) -> None:
    """End the training on all ranks if the loss or a gradient is not finite on any; to be called after backward.

    The optimiser has not stepped then, so the weights, and all checkpoints, are those of the steps before. It costs a
    norm over the gradients and one wait for the device a step (with several ranks, for a reduction of one number).

    Args:
        module: The module that is trained.
        loss: What backward began at.
        index: The batch's clips.

    Raises:
        NotFiniteError: If so; all ranks say the same.
    """
    # The scaler of fp16 looks for infinite gradients itself, leaves their step out and goes on with a smaller scale.
    scaled = module.trainer.precision == "16-mixed"
    gradients = {} if scaled else {name: _own(p.grad) for name, p in module.named_parameters() if p.grad is not None}
    if any_rank(~_finite(loss, gradients)):
        distance, found = _what_is_not_finite(module, loss, gradients)
        place = f"step {module.global_step} (epoch {module.current_epoch})"
        rate = max(group["lr"] for group in module.trainer.optimizers[0].param_groups)
        if module.trainer.world_size > 1:
            place += f" on rank {module.global_rank}"
        text = f"{', '.join(found)} at {place}, {_clips(module, index)}"
        *_, said = min(gather_objects((distance, -len(found), text)))
        after = "the weights of the step before are the last good ones"
        raise NotFiniteError(
            f"{said}; {after}; the learning rate was {rate:.3g}: if other clips do it too, it is too high"
        )


def _own(gradient: Tensor) -> Tensor:
    """This rank's part of a gradient that is spread over the ranks."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def _finite(loss: Tensor, gradients: Mapping[str, Tensor]) -> Bool[Tensor, ""]:
    return (loss.detach() + get_total_norm(list(gradients.values()))).isfinite()


def _what_is_not_finite(
    module: L.LightningModule, loss: Tensor, gradients: Mapping[str, Tensor]
) -> tuple[int, list[str]]:
    """How far from the cause the finding is, and what is found: terms, or else the loss, or else a gradient."""
    total = f"train/{keys.LOSS}"
    terms = {name: value for name, value in module.trainer.callback_metrics.items() if name.startswith(f"{total}_")}
    found = [f"{name} is {_value(value)}" for name, value in terms.items() if not value.isfinite()]
    if found:
        return 0, found
    if not loss.isfinite():
        return 1, [f"{total} is {_value(loss)}"]
    for name, value in gradients.items():
        if not value.isfinite().all():
            return 2, [f"gradient of {name} is {_value(value)}"]
    return 3, ["gradient norm is infinite"]


def _value(tensor: Tensor) -> str:
    return "nan" if tensor.isnan().any() else "infinite"


def _clips(module: L.LightningModule, index: Tensor) -> str:
    """The paths of a batch's clips; their positions in the data set where it is not ours."""
    clips = getattr(getattr(module.trainer, "datamodule", None), "clips", None)
    positions = index.tolist()
    names = [str(i) if clips is None else clips[i].path for i in positions[:SHOWN]]
    more = len(positions) - len(names)
    return "clips " + ", ".join(names) + (f" and {more} more" if more else "")
