"""What a checkpoint says of its model: how it was built, its patches, and the window that it was trained on.

So a checkpoint is enough: probes, fine-tuning and predictions build the model and read the clips as it says. Nothing of
it is trusted: only the builders of this package are called, and numbers are checked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from diffmavil.models.builders import diffmavil, diffmavil_efficient, mavil
from diffmavil.models.checkpoint_values import shown
from diffmavil.models.checkpoints import MARK, CheckpointError, check_weights, read_checkpoint, weights_of
from diffmavil.models.mavil import Built, MAViL
from diffmavil.types import Modalities
from diffmavil.window import Window

_ORIGIN: Final = "origin"
"""Where a checkpoint keeps it, below the mark."""

_MAX_CHARACTERS: Final = 10_000
"""Longest arguments of a builder, written down."""

_BUILDERS: Final = {f"diffmavil.models.{build.__name__}": build for build in (mavil, diffmavil, diffmavil_efficient)}

_PARTS: Final[dict[Modalities, tuple[str, ...]]] = {
    "audio": ("audio_encoder",),
    "video": ("video_encoder",),
    "audio_video": ("audio_encoder", "video_encoder", "fusion"),
}
"""Parts of a pretrained model that are used downstream."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a checkpoint's weights come from; what it does not say is ``None``.

    Args:
        built: How the model was built.
        window: What it reads of a clip.
        audio_patch_size: Spectrogram frames and mel bins of a patch.
        video_patch_size: Frames, height and width (pixels) of a patch.
    """

    built: Built | None = None
    window: Window | None = None
    audio_patch_size: tuple[int, ...] | None = None
    video_patch_size: tuple[int, ...] | None = None

    @classmethod
    def of(cls, model: MAViL, modalities: Modalities = "audio_video") -> Origin:
        """That of a model of which some streams are used, without a window."""
        return cls(
            built=model.built,
            audio_patch_size=model.audio_encoder.patch_size if "audio" in modalities else None,
            video_patch_size=model.video_encoder.patch_size if "video" in modalities else None,
        )

    @property
    def builder(self) -> dict[str, Any] | None:
        """The builder as a config names it, if it is one of this package: no file says what is imported."""
        return asdict(self.built) if self.built is not None and self.built.class_path in _BUILDERS else None


def write_origin(checkpoint: dict[str, Any], origin: Origin) -> None:
    """Write it into a checkpoint that is marked as ours."""
    checkpoint[MARK][_ORIGIN] = {
        "built": asdict(origin.built) if origin.built is not None and _is_plain(origin.built.init_args) else None,
        "window": None if origin.window is None else origin.window.as_dict(),
        "audio_patch_size": None if origin.audio_patch_size is None else list(origin.audio_patch_size),
        "video_patch_size": None if origin.video_patch_size is None else list(origin.video_patch_size),
    }


def origin_of(checkpoint: dict[str, Any], name: str) -> Origin:
    """What a checkpoint says of its origin; one of an earlier version says nothing.

    Args:
        checkpoint: Its content.
        name: How to call it in a message.

    Raises:
        CheckpointError: If what it says is not as it must be.
    """
    mark = checkpoint.get(MARK)
    said = mark.get(_ORIGIN) if isinstance(mark, dict) else None
    if said is None:
        return Origin()
    try:
        built, window = said.get("built"), said.get("window")
        return Origin(
            built=None if built is None else _built(built),
            window=None if window is None else Window.from_dict(window, "its window"),
            audio_patch_size=_patch_size(said.get("audio_patch_size"), 2),
            video_patch_size=_patch_size(said.get("video_patch_size"), 3),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} does not say rightly where it comes from: {error}") from error


def _built(values: object) -> Built:
    if not isinstance(values, dict) or values.keys() != {"class_path", "init_args"}:
        raise ValueError("its builder must be a class_path and init_args")
    class_path, init_args = values["class_path"], values["init_args"]
    if not isinstance(class_path, str) or not isinstance(init_args, dict) or not _is_plain(init_args):
        raise ValueError("its builder must be a name and plain values by their names")
    return Built(class_path=class_path, init_args=init_args)


def _is_plain(init_args: dict[str, Any]) -> bool:
    """Whether a config could hold the arguments of a builder."""
    try:
        return all(isinstance(name, str) for name in init_args) and len(json.dumps(init_args)) < _MAX_CHARACTERS
    except (TypeError, ValueError, RecursionError):
        return False


def _patch_size(values: object, axes: int) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != axes or not all(type(v) is int and v > 0 for v in values):
        raise ValueError(f"a patch must have {axes} lengths above 0, got {values!r}")
    return tuple(values)


def check_patches(own: Origin, origin: Origin, name: str) -> None:
    """Refuse patches of another shape than a checkpoint's, which the shapes of weights need not tell.

    Args:
        own: Origin of the model.
        origin: What the checkpoint says.
        name: How to call it in a message.

    Raises:
        CheckpointError: If they differ.
    """
    for stream, mine, said in (
        ("audio", own.audio_patch_size, origin.audio_patch_size),
        ("video", own.video_patch_size, origin.video_patch_size),
    ):
        if None not in (mine, said) and mine != said:
            raise CheckpointError(f"{name} does not fit the config: its {stream}_patch_size is {said}, not {mine}")


def build_from(origin: Origin, name: str) -> MAViL:
    """Build a model as a checkpoint says, with fresh weights.

    Args:
        origin: What the checkpoint says.
        name: How to call it in a message.

    Raises:
        CheckpointError: If it does not say, or names a builder that is not of this package.
    """
    if origin.built is None:
        raise CheckpointError(f"{name} does not say how its model was built: give the builder as model.backbone")
    path, arguments = origin.built.class_path, origin.built.init_args
    if path not in _BUILDERS:
        flags = " ".join(f"--model.backbone.{key} {value}" for key, value in arguments.items())
        raise CheckpointError(
            f"{name} was built by {path}, which is not imported on the word of a file: if you know it, add "
            f"--model.backbone {path} {flags}".rstrip()
        )
    try:
        return _BUILDERS[path](**arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name} cannot be built by {path}: {error}") from error


def load_pretrained(
    path: Path, model: MAViL | None = None, *, modalities: Modalities | None = None
) -> tuple[MAViL, Origin]:
    """A pretrained model, from its checkpoint alone.

    Args:
        path: Checkpoint of a pretraining.
        model: Load it into this model, built as it was pretrained; ``None`` builds it as the checkpoint says.
        modalities: Streams that are going to be used: only their encoders (and for both the fusion) are loaded then,
            and only they must fit. ``None``: the whole model.

    Returns:
        The model and what the checkpoint says of it.

    Raises:
        CheckpointError: If the file is not one of ours, not of pretraining, or does not fit the model.
    """
    name = f"checkpoint {path}"
    content = read_checkpoint(path)
    weights = weights_of(content, module="PretrainModule", name=name)
    for key in weights:
        if not isinstance(key, str):
            raise CheckpointError(f"{name} is damaged: state_dict has a weight that is named {shown(key)}")
    origin = origin_of(content, name)
    state = {key.removeprefix("model."): value for key, value in weights.items() if key.startswith("model.")}
    if model is None:
        with torch.device("meta"):  # whatever the file says of sizes, nothing larger than its weights is built
            check_weights(state, build_from(origin, name), name)
        model = build_from(origin, name)
    check_patches(Origin.of(model, modalities or "audio_video"), origin, name)
    parts = {part: model.get_submodule(part) for part in _PARTS[modalities]} if modalities else None
    if parts is None:
        check_weights(state, model, name)
        model.load_state_dict(state)
    for part, module in (parts or {}).items():
        own = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        check_weights(own, module, f"{name}, {part},")
        module.load_state_dict(own)
    return model, origin


def encoders_for(backbone: MAViL | None, checkpoint: Path | None, modalities: Modalities) -> tuple[MAViL, Origin]:
    """The model whose encoders are used downstream: given, or built as a checkpoint says, with its weights if any.

    Args:
        backbone: The model, built as it was pretrained; ``None`` leaves it to the checkpoint.
        checkpoint: Checkpoint of a pretraining; ``None`` leaves the backbone as it is.
        modalities: Streams that are going to be used.

    Returns:
        The model and what the checkpoint says of it.

    Raises:
        ValueError: If there is neither.
        CheckpointError: If the checkpoint cannot be used.
    """
    if checkpoint is not None:
        return load_pretrained(checkpoint, backbone, modalities=modalities)
    if backbone is None:
        raise ValueError(
            "backbone must be given where there is no checkpoint to build it from, such as "
            "--model.backbone diffmavil.models.diffmavil --model.backbone.size base"
        )
    return backbone, Origin()
