"""Initialising an encoder with a ViT of timm, MAE, BEiT or VideoMAE, or of whatever else names its parts as they do."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from einops import rearrange, repeat
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from diffmavil.models.checkpoints import CheckpointError, read_checkpoint
from diffmavil.nn.encoder import Encoder

_BLOCK: Final = re.compile(r"(|.*\.)blocks\.\d+\.")
"""A weight of a block, and what stands before it: nothing, ``module.``, ``encoder.``, ``backbone.`` and the like."""

_PATCH_EMBED: Final = "patch_embed.proj.weight"
_AVERAGED: Final = ("teacher", "target_encoder", "model_ema", "state_dict_ema", "ema")
"""Of the networks of one file those that its authors evaluate: averages over the training."""

_MAX_DEPTH: Final = 3
"""Dictionaries that lie in one another in a file before its weights come."""


@dataclass(frozen=True)
class Fit:
    """What became of a foreign checkpoint's weights.

    Args:
        loaded: Our parameters that were set.
        missing: Our parameters that were left as initialised.
        unused: Names in the file that have no place here.
        place: Where the ViT was in the file, such as ``module`` or ``teacher.backbone``; empty: at its top.
    """

    loaded: list[str]
    missing: list[str]
    unused: list[str]
    place: str

    def __str__(self) -> str:
        place = f" from {self.place}" if self.place else ""
        missing, unused = ", ".join(self.missing) or "none", ", ".join(self.unused) or "none"
        return f"{len(self.loaded)} weights loaded{place}; left as initialised: {missing}; not used: {unused}"


def load_vit(encoder: Encoder, weights: str) -> Fit:
    """Initialise an encoder with a ViT's weights.

    The patch embedding of an image model is averaged over colours for a spectrogram and spread evenly over the frames
    of a tubelet for video; one of video must be of the encoder's own tubelet. The position table is left alone: ours is
    fixed by formula. The ViT may lie in dictionaries (``state_dict``, ``module``, ``model``, ...) and its names have
    something before them (``module.``, ``encoder.``, ``backbone.``, ...). Of several, an average over the training
    (``teacher``, ``target_encoder``) is taken, then the first.

    Args:
        encoder: The encoder.
        weights: ``timm:NAME`` for a pretrained model of timm, or the path of a file of timm, MAE, BEiT or VideoMAE.

    Raises:
        CheckpointError: If it cannot be read, is no ViT, or is of another width or patch size.
    """
    name = f"checkpoint {weights}"
    found = _find_vit(_read_vit(weights))
    if found is None:
        raise CheckpointError(f"{name} holds no ViT: none of its weights has a place in an encoder")
    own = encoder.state_dict()
    new: dict[str, Tensor] = {}
    unused = []
    for key, value in _with_whole_biases(found.state, found.prefix).items():
        target = _place_of(key.removeprefix(found.prefix)) if key.startswith(found.prefix) else None
        if target is None or target not in own:
            unused.append(key)
            continue
        if target == "patch_embed.weight":
            value = _fit_patch_embed(value, encoder, name)
        if value.shape != own[target].shape:
            raise CheckpointError(
                f"{name} does not fit the config: {key} is {tuple(value.shape)}, not {tuple(own[target].shape)}"
            )
        if not value.isfinite().all():
            raise CheckpointError(f"{name}: {key} holds a value that is not finite")
        new[target] = value
    if not any(key.startswith("transformer.blocks.") for key in new):
        raise CheckpointError(f"{name} holds no ViT: none of its weights has a place in an encoder")
    encoder.load_state_dict({**own, **new})
    return Fit(sorted(new), sorted(own.keys() - new.keys()), unused, f"{found.path}.{found.prefix}".strip("."))


@dataclass(frozen=True)
class _Found:
    """A ViT in a file: the dictionary that holds its weights, where that is, and what its names begin with."""

    state: dict[str, Tensor]
    path: str
    prefix: str

    @property
    def rank(self) -> tuple[bool, bool]:
        """What is taken first: an encoder, which embeds patches (a decoder does not), and of those an average."""
        names = f"{self.path}.{self.prefix}".split(".")
        return f"{self.prefix}{_PATCH_EMBED}" not in self.state, not any(name in _AVERAGED for name in names)


def _find_vit(content: dict[Any, Any]) -> _Found | None:
    return min(_vits(content, "", _MAX_DEPTH), key=lambda found: found.rank, default=None)


def _vits(content: dict[Any, Any], path: str, depth: int) -> Iterator[_Found]:
    state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    for prefix in dict.fromkeys(match[1] for key in state if (match := _BLOCK.match(key))):
        yield _Found(state, path, prefix)
    for key, value in content.items():
        if depth and isinstance(key, str) and isinstance(value, dict):
            yield from _vits(value, f"{path}.{key}".strip("."), depth - 1)


def _with_whole_biases(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights with one bias of query, key and value where a ViT has those of query and value alone.

    Source: BEiT, arXiv:2106.08254, and VideoMAE, arXiv:2203.12602: a key's bias changes nothing and is left out.
    """
    whole = dict(state)
    for key in state:
        stem = key.removesuffix(".q_bias")
        if key.startswith(f"{prefix}blocks.") and stem != key and f"{stem}.v_bias" in state:
            q, v = whole.pop(key), whole.pop(f"{stem}.v_bias")
            whole[f"{stem}.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return whole


def _read_vit(weights: str) -> dict[Any, Any]:
    if weights.startswith("timm:"):
        try:
            import timm  # with all of its models, which take a while to import

            model = timm.create_model(weights.removeprefix("timm:"), pretrained=True)
        except Exception as error:  # an unknown name, or whatever keeps the weights from being fetched
            raise CheckpointError(f"checkpoint {weights} cannot be had: {error}") from error
        state: dict[Any, Any] = model.state_dict()
        return state
    if weights.endswith(".safetensors"):
        return _read_safetensors(Path(weights))
    with safe_globals([Namespace]):  # MAE's files hold the arguments of their training as one
        return read_checkpoint(Path(weights))


def _read_safetensors(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint must be a file, got {path}")
    try:
        state: dict[Any, Any] = load_file(path)
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
    """A convolution's weight (D, C, height, width), or (D, C, time, height, width) for video, as one of ours (D, P)."""
    patch_size = encoder.patch_size if weight.ndim == 5 else encoder.patch_size[-2:]
    if tuple(weight.shape[2:]) != patch_size:
        raise CheckpointError(
            f"{name} does not fit the config: its patches are {tuple(weight.shape[2:])}, not {patch_size}"
        )
    if encoder.in_channels == 1:
        weight = weight.mean(1, keepdim=True)
    if weight.ndim == 5:
        return rearrange(weight, "d c t h w -> d (c t h w)")
    frames = encoder.patch_size[0] if len(encoder.patch_size) == 3 else 1
    return repeat(weight, "d c h w -> d (c t h w)", t=frames) / frames
