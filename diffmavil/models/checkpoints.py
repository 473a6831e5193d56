"""Our own checkpoints: reading them without running code, what marks them as ours, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import nn

from diffmavil.models.checkpoint_file import check_file
from diffmavil.models.checkpoint_values import CheckpointError, check_tensor, shown

__all__ = [
    "MARK",
    "CheckpointError",
    "check_mark",
    "check_weights",
    "mark_checkpoint",
    "read_checkpoint",
    "weights_of",
]

MARK = "diffmavil"
"""Key under which our checkpoints say what they are."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file without running code from it.

    Raises:
        CheckpointError: If there is no such file, it is a folder, it is damaged, or no checkpoint of tensors and plain
            values.
    """
    if path.is_dir():
        raise CheckpointError(
            f"checkpoint {path} is a folder of shards, which only ModelParallelStrategy loads; with "
            "save_distributed_checkpoint: false it saves one file"
        )
    if not path.is_file():
        raise CheckpointError(f"checkpoint must be a file, got {path}")
    try:
        check_file(path)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    try:
        # mapped: a glance at a checkpoint of gigabytes does not read its weights; files of old PyTorch are no zip files
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:  # a file of anything can make the reader stumble in any way
        raise CheckpointError(f"checkpoint {path} cannot be read: it is no file of tensors") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"checkpoint {path} holds no dictionary, but a {type(content).__name__}")
    return content


def mark_checkpoint(checkpoint: dict[str, Any], module: str, version: str) -> None:
    """Write into a checkpoint that it is ours, and of which LightningModule."""
    checkpoint[MARK] = {"module": module, "version": version}


def check_mark(checkpoint: dict[str, Any], *, module: str, name: str) -> None:
    """Refuse a checkpoint that is not ours, or of another module.

    Args:
        checkpoint: Content of the file.
        module: Name of the LightningModule that it must be of.
        name: How to call the checkpoint in a message.

    Raises:
        CheckpointError: If so.
    """
    mark = checkpoint.get(MARK)
    if not isinstance(mark, dict):
        raise CheckpointError(f"{name} is no checkpoint of diffmavil")
    for key in ("module", "version"):
        if not isinstance(mark.get(key), str):
            raise CheckpointError(f"{name} is damaged: {MARK}.{key} must be a name, got {shown(mark.get(key))}")
    if mark["module"] != module:
        raise CheckpointError(f"{name} is a checkpoint of {mark['module']:.80}, not of {module}")


def weights_of(checkpoint: dict[str, Any], *, module: str, name: str) -> dict[Any, Any]:
    """The weights in one of our checkpoints, looked at by nobody yet; see :func:`check_mark` for the arguments.

    Raises:
        CheckpointError: If it is not ours, or of another module, or has none.
    """
    check_mark(checkpoint, module=module, name=name)
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{name} is damaged: state_dict must hold the weights, got {shown(weights)}")
    return weights


def check_weights(state: Mapping[Any, Any], model: nn.Module, name: str) -> None:
    """Refuse weights that are not those of ``model`` by name, shape and kind of number, or are not finite.

    A floating-point weight may have another precision than the model's.

    Raises:
        CheckpointError: Naming the first that does not fit.
    """
    own = model.state_dict()
    for key, value in own.items():
        if key not in state:
            raise CheckpointError(f"{name} does not fit the config: it has no {key}")
        check_tensor(state[key], like=value, key=key, name=f"{name} does not fit the config")
    for key in state:
        if key not in own:
            raise CheckpointError(
                f"{name} does not fit the config: the model has no {key if isinstance(key, str) else shown(key)}"[:300]
            )
