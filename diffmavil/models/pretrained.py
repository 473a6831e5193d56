"""Weights from elsewhere: our own checkpoints, and ViTs of timm or MAE for an encoder."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import timm
import torch
from einops import repeat
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import safe_globals

from diffmavil.models.mavil import MAViL
from diffmavil.nn.encoder import Encoder

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


def load_learner(model: MAViL, path: Path) -> None:
    """Load the masked learner of a pretraining checkpoint.

    Raises:
        CheckpointError: If the file is not one of ours, not of pretraining, or of another shape.
    """
    name = f"checkpoint {path}"
    weights = weights_of(read_checkpoint(path), module="PretrainModule", name=name)
    prefix = "model."
    state = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    check_shapes(state, model, name)
    model.load_state_dict(state)


@dataclass(frozen=True)
class Fit:
    """What became of a foreign checkpoint's weights.

    Args:
        loaded: Our parameters that were set.
        missing: Our parameters that were left as initialised.
        unused: Names in the file that have no place here.
    """

    loaded: list[str]
    missing: list[str]
    unused: list[str]


def load_vit(encoder: Encoder, weights: str) -> Fit:
    """Initialise an encoder with a ViT's weights.

    The patch embedding is averaged over colours for a spectrogram and spread evenly over the frames of a tubelet for
    video. The position table is left alone: ours is fixed by formula.

    Args:
        encoder: The encoder.
        weights: ``timm:NAME`` for a pretrained model of timm, or the path of a checkpoint file of timm or MAE.

    Raises:
        CheckpointError: If it cannot be read, is no ViT, or is of another width or patch size.
    """
    name = f"checkpoint {weights}"
    state = _read_vit(weights)
    own = encoder.state_dict()
    new: dict[str, Tensor] = {}
    unused = []
    for key, value in state.items():
        target = _place_of(key)
        if target is None or target not in own:
            unused.append(key)
            continue
        if target == "patch_embed.weight":
            value = _fit_patch_embed(value, encoder, name)
        if value.shape != own[target].shape:
            raise CheckpointError(
                f"{name} does not fit the config: {key} is {tuple(value.shape)}, not {tuple(own[target].shape)}"
            )
        new[target] = value
    if not any(key.startswith("transformer.blocks.") for key in new):
        raise CheckpointError(f"{name} holds no ViT: none of its weights has a place in an encoder")
    encoder.load_state_dict({**own, **new})
    return Fit(sorted(new), sorted(own.keys() - new.keys()), unused)


def _read_vit(weights: str) -> dict[str, Tensor]:
    if weights.startswith("timm:"):
        try:
            model = timm.create_model(weights.removeprefix("timm:"), pretrained=True)
        except Exception as error:  # an unknown name, or whatever keeps the weights from being fetched
            raise CheckpointError(f"checkpoint {weights} cannot be had: {error}") from error
        state: dict[str, Tensor] = model.state_dict()
        return state
    if weights.endswith(".safetensors"):
        return _read_safetensors(Path(weights))
    with safe_globals([Namespace]):  # MAE's files hold the arguments of their training as one
        content = read_checkpoint(Path(weights))
    inner = content.get("model", content)  # MAE's files hold their weights under "model"
    if not isinstance(inner, dict):
        raise CheckpointError(f"checkpoint {weights} holds no ViT: its 'model' is a {type(inner).__name__}")
    return {key: value for key, value in inner.items() if isinstance(value, Tensor)}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint must be a file, got {path}")
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    return state


def _place_of(key: str) -> str | None:
    """Our name of a ViT's parameter; ``None`` where we have none (class token, positions, heads, decoder)."""
    if key.startswith("patch_embed.proj."):
        return key.replace("patch_embed.proj.", "patch_embed.")
    if key.startswith(("blocks.", "norm.")):
        return f"transformer.{key}"
    return None


def _fit_patch_embed(weight: Tensor, encoder: Encoder, name: str) -> Tensor:
    """A convolution's weight (D, 3, height, width) as one of ours (D, P)."""
    if weight.ndim != 4 or tuple(weight.shape[2:]) != encoder.patch_size[-2:]:
        raise CheckpointError(
            f"{name} does not fit the config: its patches are {tuple(weight.shape[2:])}, not {encoder.patch_size[-2:]}"
        )
    if encoder.in_channels == 1:
        weight = weight.mean(1, keepdim=True)
    frames = encoder.patch_size[0] if len(encoder.patch_size) == 3 else 1
    return repeat(weight, "d c h w -> d (c t h w)", t=frames) / frames
