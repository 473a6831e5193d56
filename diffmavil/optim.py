"""Parameter groups: no weight decay where it does harm, and smaller steps for earlier layers."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from torch.optim import Optimizer

from diffmavil.checks import check_number


def layer_of(name: str, depth: int) -> int:
    """Layer number of a parameter: 0 for patch embeddings, i + 1 for encoder block i, ``depth + 1`` for the rest.

    Args:
        name: The parameter's name in the model.
        depth: Blocks of an encoder.
    """
    if ".patch_embed." in name:
        return 0
    block = re.search(r"_encoder\.transformer\.blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else depth + 1


def check_steps(*, lr: float, weight_decay: float, layer_decay: float = 1.0, head_lr_scale: float = 1.0) -> None:
    """Refuse step sizes that are none.

    Args:
        lr: Peak learning rate, above 0.
        weight_decay: Weight decay of matrices, at least 0.
        layer_decay: Factor from a layer to the one before it, in (0, 1].
        head_lr_scale: Factor on the head's step size, above 0.

    Raises:
        ValueError: If a value is outside its range.
    """
    check_number("lr", lr, above=0)
    check_number("weight_decay", weight_decay, at_least=0, limit=1e6)
    check_number("layer_decay", layer_decay, above=0, at_most=1)
    check_number("head_lr_scale", head_lr_scale, above=0, limit=1e6)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    depth: int = 0,
    head_lr_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for an optimiser, by step size and weight decay.

    Vectors (biases, norms, mask tokens) are not decayed. A parameter of layer l takes steps of
    ``lr * layer_decay ** (depth + 1 - l)``. Each group carries its peak step size as ``peak_lr``.

    Args:
        model: The model.
        lr: Peak learning rate, above 0.
        weight_decay: Weight decay of matrices, at least 0.
        layer_decay: Factor from a layer to the one before it, in (0, 1].
        depth: Blocks of an encoder; only read when ``layer_decay`` is below 1.
        head_lr_scale: Factor on the step size of parameters named ``head.*``.

    Source: layer decay from ELECTRA, arXiv:2003.10555, as BEiT (arXiv:2106.08254) and MAE use it.

    Raises:
        ValueError: If a value is outside its range.
    """
    check_steps(lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, head_lr_scale=head_lr_scale)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if parameter.ndim > 1 else 0.0
        step = lr * layer_decay ** (depth + 1 - layer_of(name, depth))
        if name.startswith("head."):
            step *= head_lr_scale
        group = groups.setdefault((step, decay), {"params": [], "lr": step, "peak_lr": step, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def number_by_model(state: dict[str, Any], optimizer: Optimizer, model: nn.Module) -> None:
    """Renumber the parameters in an optimiser's state dict, in place, by their order in ``model``.

    PyTorch numbers them group by group. It loads any numbering, because it goes by the order within the groups;
    Lightning's ModelParallelStrategy writes and expects the order of the model.

    Args:
        state: The optimiser's state dict; left alone where it is empty, as on ranks that do not save, or goes by names,
            as in a checkpoint in shards.
        optimizer: The optimiser.
        model: The model that holds all its parameters.
    """
    if not state or any(isinstance(key, str) for key in state["state"]):
        return
    order = {parameter: k for k, parameter in enumerate(model.parameters())}
    new: dict[int, int] = {}
    for group, live in zip(state["param_groups"], optimizer.param_groups, strict=True):
        new |= {old: order[parameter] for old, parameter in zip(group["params"], live["params"], strict=True)}
        group["params"] = [order[parameter] for parameter in live["params"]]
    state["state"] = {new[old]: value for old, value in state["state"].items()}
