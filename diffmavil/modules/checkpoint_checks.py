"""Whether a checkpoint is one that a module can use: all of it is looked at before anything is built on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy

from diffmavil.data import ClipDataModule
from diffmavil.data.empty_windows import check_counts
from diffmavil.data.skips import check_skips
from diffmavil.models.checkpoint_values import CheckpointError, shown
from diffmavil.models.checkpoints import MARK, check_mark, check_weights, weights_of
from diffmavil.modules.resumable import check_count, check_loader, check_loops, check_optimizer

if TYPE_CHECKING:
    from diffmavil.modules.base import TrainedModule

DEPTH: Final = 50
"""Levels of lists and mappings in a callback's state; Lightning copies them by recursion."""

_SCALE: Final = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


def check_checkpoint(
    checkpoint: dict[str, Any],
    module: TrainedModule,
    *,
    name: str,
    resume: bool,
    trainer: L.Trainer | None = None,
    data: L.LightningDataModule | None = None,
) -> None:
    """Refuse a checkpoint that is not ours, does not fit, or is damaged in anything that is going to be read of it.

    Args:
        checkpoint: Content of the file.
        module: What it is for.
        name: How to call the checkpoint in a message.
        resume: Whether a training is to go on from it; otherwise only its weights are used.
        trainer: What is going to load it.
        data: What that training reads.

    Raises:
        CheckpointError: If so.
    """
    check_mark(checkpoint, module=module.kind(), name=name)
    damaged = f"{name} is damaged"
    _check_marked(checkpoint[MARK], damaged)
    version = checkpoint.get("pytorch-lightning_version")
    # Lightning turns what its earlier versions wrote into what it reads now, and stumbles over what none has written
    if not isinstance(version, str) or not re.fullmatch(r"2\.\d{1,4}(\.\d{1,4})?[.+]?[0-9a-z.]{0,20}", version):
        raise CheckpointError(f"{damaged}: pytorch-lightning_version must be 2.something, got {shown(version)}")
    for key in ("epoch", "global_step"):
        check_count(checkpoint.get(key), key, damaged)
    for key in ("callbacks", "loops"):
        if not isinstance(checkpoint.get(key, {}), dict):
            raise CheckpointError(f"{damaged}: {key} must be a mapping, got {shown(checkpoint[key])}")
    took_out = trainer is not None and isinstance(trainer.strategy, ModelParallelStrategy)
    if not took_out or "state_dict" in checkpoint:
        check_weights(weights_of(checkpoint, module=module.kind(), name=name), module, name)
    _check_callbacks(checkpoint.get("callbacks", {}), getattr(trainer, "callbacks", []), damaged)
    _check_scale(checkpoint, damaged)
    if not resume:
        return
    if not took_out and "optimizer_states" not in checkpoint and "lr_schedulers" not in checkpoint:
        raise CheckpointError(
            f"{name} holds weights only, as save_weights_only: true writes it: it cannot be resumed; "
            "use it as model.checkpoint, or with test or predict"
        )
    if not isinstance(schedulers := checkpoint.get("lr_schedulers"), list):
        raise CheckpointError(f"{name} cannot be resumed: lr_schedulers must be a list, got {shown(schedulers)}")
    if "callbacks" not in checkpoint:
        raise CheckpointError(f"{name} cannot be resumed: it has no callbacks")
    check_loops(checkpoint, name)
    if module.uses_adamw() and ("optimizer_states" in checkpoint or not took_out):
        check_optimizer(checkpoint, module.parameter_groups(), module, name)
    if isinstance(data, ClipDataModule):
        check_loader(checkpoint["loops"]["fit_loop"], name)
        state = checkpoint.get(type(data).__qualname__)
        try:
            check_skips(state.get("skipped") if isinstance(state, dict) else None)
            if isinstance(state, dict) and "empty_windows" in state:  # older checkpoints have none
                check_counts(state["empty_windows"])
        except ValueError as error:
            raise CheckpointError(f"{name} cannot be resumed: {type(data).__qualname__}: {error}") from error


def _check_marked(mark: dict[str, Any], name: str) -> None:
    """What modules keep under our mark: ratios that a curriculum had come to, classes, whether batches are halved."""
    ratios, classes, halved = mark.get("mask_ratios", [0.0, 0.0]), mark.get("classes", []), mark.get("halved", False)
    if not isinstance(halved, bool):
        raise CheckpointError(f"{name}: {MARK}.halved must be true or false, got {shown(halved)}")
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise CheckpointError(f"{name}: {MARK}.classes must be a list of names, got {shown(classes)}")
    fits = isinstance(ratios, list) and len(ratios) == 2 and all(isinstance(ratio, int | float) for ratio in ratios)
    if not fits or not all(0 <= ratio < 1 for ratio in ratios):
        raise CheckpointError(f"{name}: {MARK}.mask_ratios must be two numbers in [0, 1), got {shown(ratios)}")


def _check_callbacks(states: Mapping[Any, Any], callbacks: Sequence[L.Callback], name: str) -> None:
    """Refuse states that a callback of Lightning or of ours cannot take; others look at their own themselves."""
    by_key = {callback.state_key: callback for callback in callbacks}
    for key, state in states.items():
        where = f"callbacks.{key if isinstance(key, str) else shown(key)}"[:120]
        if not isinstance(key, str) or not isinstance(state, dict):
            raise CheckpointError(f"{name}: {where} must be a mapping, got {shown(state)}")
        _check_depth(state, where, name)
        if "ModelCheckpoint" in key or isinstance(by_key.get(key), ModelCheckpoint):
            _check_scores(state, where, name)
        elif key in by_key and type(by_key[key]).__module__.partition(".")[0] in ("lightning", "diffmavil"):
            _check_like(state, by_key[key].state_dict(), where, name)


def _check_depth(state: Any, where: str, name: str) -> None:
    seen: set[int] = set()
    level: list[Any] = [state]
    for _ in range(DEPTH):
        inner = [x for value in level for x in ([*value, *value.values()] if isinstance(value, dict) else value)]
        # each once, however often it is referred to
        new = {id(x): x for x in inner if isinstance(x, dict | list | tuple | set) and id(x) not in seen}
        seen |= new.keys()
        level = list(new.values())
        if not level:
            return
    raise CheckpointError(f"{name}: {where} must have at most {DEPTH} levels")


def _check_scores(state: dict[str, Any], where: str, name: str) -> None:
    """Of a ModelCheckpoint; its paths are for :func:`~diffmavil.modules.checkpoint_paths.keep_own_paths`."""
    best = state.get("best_k_models", {})
    scores = {key: state.get(key) for key in ("best_model_score", "current_score", "kth_value")}
    if not isinstance(best, dict) or not all(
        _is_number(x) for x in (*best.values(), *scores.values()) if x is not None
    ):
        raise CheckpointError(f"{name}: {where} must have numbers for scores")
    for key in ("best_model_path", "best_model_score"):
        if key not in state:
            raise CheckpointError(f"{name}: {where} has no {key}")
    for key in ("best_model_path", "last_model_path", "kth_best_model_path", "dirpath"):
        if not isinstance(state.get(key, ""), str):
            raise CheckpointError(f"{name}: {where}.{key} must be a path, got {shown(state[key])}")


def _check_like(state: Any, own: Any, where: str, name: str) -> None:
    """Refuse a state that lacks what the callback's own has, or has something of another kind in its place."""
    if isinstance(own, dict):
        if not isinstance(state, dict) or own.keys() - state.keys():
            raise CheckpointError(f"{name}: {where} must have {', '.join(map(str, own))}, got {shown(state)}")
        for key in own:
            _check_like(state[key], own[key], f"{where}.{key}", name)
    elif isinstance(own, bool | str | list) and not isinstance(state, type(own)):
        raise CheckpointError(f"{name}: {where} must be a {type(own).__name__}, got {shown(state)}")
    elif isinstance(own, int) and not isinstance(own, bool):
        check_count(state, where, name)
    elif isinstance(own, float | torch.Tensor) and not _is_number(state):
        raise CheckpointError(f"{name}: {where} must be a number, got {shown(state)}")


def _is_number(value: Any) -> bool:
    """Whether something is a number, or a tensor of one; infinity is where a best value begins."""
    if isinstance(value, torch.Tensor):
        return value.layout == torch.strided and value.numel() == 1 and not bool(value.isnan())
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _check_scale(checkpoint: dict[str, Any], name: str) -> None:
    """Of the loss, in 16-mixed precision."""
    for key in ("MixedPrecision", "native_amp_scaling_state"):
        state = checkpoint.get(key, dict.fromkeys(_SCALE, 1))
        numbers: list[Any] = [state.get(number) for number in _SCALE] if isinstance(state, dict) else [None]
        if not all(_is_number(number) and 0 <= number < float("inf") for number in numbers):
            raise CheckpointError(f"{name}: {key} must have {', '.join(_SCALE)} as numbers of at least 0")
