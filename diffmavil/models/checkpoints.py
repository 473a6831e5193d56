"""Our own checkpoints: reading them without running code, what marks them as ours, and whether they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

MARK = "diffmavil"
"""Key under which our checkpoints say what they are."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says which one and why, in one line."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file without running code from it.

    Raises:
        CheckpointError: If there is no such file, it is a folder, or no checkpoint of tensors and plain values.
    """
    if path.is_dir():
        raise CheckpointError(
            f"checkpoint {path} is a folder of shards, which only ModelParallelStrategy loads; with "
            "save_distributed_checkpoint: false it saves one file"
        )
    if not path.is_file():
        raise CheckpointError(f"checkpoint must be a file, got {path}")
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
    if mark.get("module") != module:
        raise CheckpointError(f"{name} is a checkpoint of {mark.get('module')}, not of {module}")


def weights_of(checkpoint: dict[str, Any], *, module: str, name: str) -> dict[str, Tensor]:
    """The weights in one of our checkpoints; see :func:`check_mark` for the arguments.

    Raises:
        CheckpointError: If it is not ours, or of another module.
    """
    check_mark(checkpoint, module=module, name=name)
    if "state_dict" not in checkpoint:
        raise CheckpointError(f"{name} is no checkpoint of diffmavil")
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    return weights


def check_shapes(state: dict[str, Tensor], model: nn.Module, name: str) -> None:
    """Refuse weights whose names or shapes are not those of ``model``.

    Raises:
        CheckpointError: Naming the first that does not fit.
    """
    own = model.state_dict()
    for key, value in own.items():
        if key not in state:
            raise CheckpointError(f"{name} does not fit the config: it has no {key}")
        if state[key].shape != value.shape:
            raise CheckpointError(
                f"{name} does not fit the config: {key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
            )
    for key in state:
        if key not in own:
            raise CheckpointError(f"{name} does not fit the config: the model has no {key}")
