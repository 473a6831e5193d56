"""Initialising an encoder with a ViT of timm or MAE."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from einops import repeat
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from diffmavil.models.checkpoints import CheckpointError, read_checkpoint
from diffmavil.nn.encoder import Encoder


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
            import timm  # with all of its models, which take a while to import

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
