"""What a checkpoint must hold for a training to be resumed: the optimiser's state, and how far everything had come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from diffmavil.checks import check_number
from diffmavil.models.checkpoint_values import CheckpointError, check_tensor, shown

_STEP: Final = {name: 0 for name in ("ready", "completed")}
_STARTED: Final = {**_STEP, "started": 0}
_BATCH: Final = {**_STARTED, "processed": 0}

LOOPS: Final[dict[str, Any]] = {
    "epoch_progress": {"total": _BATCH, "current": _BATCH},
    "epoch_loop.state_dict": {"_batches_that_stepped": 0},
    "epoch_loop.batch_progress": {"total": _BATCH, "current": _BATCH, "is_last_batch": False},
    "epoch_loop.scheduler_progress": {"total": _STEP, "current": _STEP},
    "epoch_loop.automatic_optimization.optim_progress": {
        "optimizer": {
            "step": {"total": _STEP, "current": _STEP},
            "zero_grad": {"total": _STARTED, "current": _STARTED},
        }
    },
    "epoch_loop.manual_optimization.optim_step_progress": {"total": _STEP, "current": _STEP},
    "epoch_loop.val_loop.batch_progress": {"total": _BATCH, "current": _BATCH, "is_last_batch": False},
}
"""How Lightning's fit loop writes down where it is: counts, and whether a batch is the last."""

MOMENTS: Final = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter, beside the number of its steps."""


def check_loops(checkpoint: Mapping[str, Any], name: str) -> None:
    """Refuse a checkpoint that does not say how far its training had come, or contradicts itself.

    Raises:
        CheckpointError: If so.
    """
    loops = checkpoint.get("loops")
    fit_loop = loops.get("fit_loop") if isinstance(loops, dict) else None
    if not isinstance(fit_loop, dict):
        raise CheckpointError(f"{name} cannot be resumed: it has no loops.fit_loop")
    for key, form in LOOPS.items():
        where = f"loops.fit_loop.{key}"
        if key not in fit_loop:
            raise CheckpointError(f"{name} cannot be resumed: it has no {where}")
        _check_form(fit_loop[key], form, where, name)
    own = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    users = fit_loop["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]
    epoch = fit_loop["epoch_progress"]["current"]["completed"]
    for key, counted in (("epoch", epoch), ("global_step", own + users)):
        if checkpoint[key] != counted:
            raise CheckpointError(f"{name} cannot be resumed: {key} is {checkpoint[key]}, its loops say {counted}")


def _check_form(value: Any, form: Any, where: str, name: str) -> None:
    if isinstance(form, dict):
        if not isinstance(value, dict) or value.keys() != form.keys():
            raise CheckpointError(f"{name} cannot be resumed: {where} must have {', '.join(form)}, got {shown(value)}")
        for key, inner in form.items():
            _check_form(value[key], inner, f"{where}.{key}", name)
    elif isinstance(form, bool):
        if not isinstance(value, bool):
            raise CheckpointError(f"{name} cannot be resumed: {where} must be true or false, got {shown(value)}")
    else:
        check_count(value, where, f"{name} cannot be resumed")


def check_count(value: Any, where: str, name: str) -> None:
    """Refuse what is no integer from 0 on.

    Raises:
        CheckpointError: If so.
    """
    if type(value) is not int or not 0 <= value < 2**62:
        raise CheckpointError(f"{name}: {where} must be an integer of at least 0, got {shown(value)}")


def check_loader(fit_loop: Mapping[str, Any], name: str) -> None:
    """Refuse the loops' state if it does not say where our loader is, or says something else than the loops do.

    Raises:
        CheckpointError: If so.
    """
    where = "loops.fit_loop.state_dict.combined_loader"
    state = fit_loop.get("state_dict")
    loaders = state.get("combined_loader") if isinstance(state, dict) else None
    if not isinstance(loaders, list) or len(loaders) != 1 or not isinstance(loaders[0], dict):
        raise CheckpointError(
            f"{name} cannot be resumed: {where} must be the state of one loader, got {shown(loaders)}"
        )
    loader = loaders[0]
    for key in ("epoch", "batches", *(loader.keys() & {"global_batch", "clips", "order"})):
        check_count(loader.get(key), f"{where}.{key}", f"{name} cannot be resumed")
    batches = fit_loop["epoch_loop.batch_progress"]
    epoch = max(fit_loop["epoch_progress"]["current"]["ready"] - 1, 0)  # also of one that max_steps has cut off
    here, there = (epoch, batches["current"]["ready"]), (loader["epoch"], loader["batches"])
    at_end = batches["is_last_batch"] or here[1] == 0 or there[1] == 0
    if here != there and not (at_end and abs(there[0] - here[0]) <= 1):
        raise CheckpointError(
            f"{name} cannot be resumed: its loader is at epoch {there[0]}, batch {there[1]}, "
            f"its loops are at epoch {here[0]}, batch {here[1]}"
        )


def check_optimizer(
    checkpoint: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], model: nn.Module, name: str
) -> None:
    """Refuse a checkpoint whose optimiser is not that of the parameters: AdamW's kernels believe what they are given.

    Args:
        checkpoint: The checkpoint.
        groups: The parameter groups that the training is going to have.
        model: What the parameters are of.
        name: How to call the checkpoint in a message.

    Raises:
        CheckpointError: If so.
    """
    states, name = checkpoint.get("optimizer_states"), f"{name} cannot be resumed"
    if not isinstance(states, list) or len(states) != 1 or not isinstance(states[0], dict):
        raise CheckpointError(f"{name}: optimizer_states must be the state of one optimiser, got {shown(states)}")
    given, state = states[0].get("param_groups"), states[0].get("state")
    if not isinstance(given, list) or not all(isinstance(group, dict) for group in given):
        raise CheckpointError(f"{name}: optimizer_states has no param_groups")
    if not isinstance(state, dict):
        raise CheckpointError(f"{name}: optimizer_states has no state")
    numbers = [group.get("params") for group in given]
    sizes = [len(group["params"]) for group in groups]
    if not all(isinstance(ids, list) for ids in numbers) or [len(ids) for ids in numbers] != sizes:
        raise CheckpointError(f"{name}: its optimiser must have {len(sizes)} groups of {sizes} parameters")
    every = [number for ids in numbers for number in ids]
    if not all(type(number) is int for number in every) or len(set(every)) != len(every) or state.keys() - set(every):
        raise CheckpointError(f"{name}: the numbers of its optimiser's parameters are not one for each")
    names = {parameter: key for key, parameter in model.named_parameters()}
    parameters = [parameter for group in groups for parameter in group["params"]]
    fresh = [parameter for number, parameter in zip(every, parameters, strict=True) if number not in state]
    if fresh and len(fresh) == len(parameters) and checkpoint["global_step"]:
        raise CheckpointError(f"{name}: its optimiser has no state of any parameter")
    if fresh and checkpoint["global_step"]:
        rank_zero_info(
            f"{name} as it was: its optimiser has no state of {len(fresh)} parameters, {names[fresh[0]]} first"
        )
    for number, parameter in zip(every, parameters, strict=True):
        if number in state:
            _check_state(state[number], parameter, f"optimizer_states of {names[parameter]}", name)


def _check_state(state: Any, parameter: Tensor, where: str, name: str) -> None:
    if not isinstance(state, dict) or state.keys() != {"step", *MOMENTS}:
        raise CheckpointError(f"{name}: {where} must be step, {', '.join(MOMENTS)}, got {shown(state)}")
    for key in MOMENTS:
        check_tensor(
            state[key], like=parameter, key=f"{where}: {key}", name=name, least=None if key == "exp_avg" else 0.0
        )
    step = state["step"]
    if isinstance(step, Tensor):
        check_tensor(step, like=torch.tensor(0.0), key=f"{where}: step", name=name)
        step = step.item()
    if isinstance(step, bool) or not isinstance(step, int | float):
        raise CheckpointError(f"{name}: {where}: step must be a number, got {shown(step)}")
    try:
        check_number("step", float(step), at_least=0.0)
    except ValueError as error:
        raise CheckpointError(f"{name}: {where}: {error}") from error
