"""What a config plans to compute, epoch by epoch, without reading a clip or holding a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import lightning as L
import torch
from jsonargparse import ArgumentParser, Namespace

import diffmavil.callbacks
import diffmavil.modules  # noqa: F401 (a config may name a class of it without its path)
from diffmavil.callbacks import AdaptiveBatchSize, MaskRatioCurriculum
from diffmavil.checks import MAX_EPOCHS, check_number
from diffmavil.commands.streams import require_streams
from diffmavil.commands.whole_patches import require_whole_patches
from diffmavil.data import ClipDataModule
from diffmavil.modules import PretrainModule
from diffmavil.modules.base import TrainedModule

MOMENTS: Final = 32
"""Moments of an epoch at which a curriculum that changes by step is read."""


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """One epoch of a planned run.

    Args:
        audio_mask_ratio: Share of the spectrogram's patches hidden, mean over the epoch; ``None`` in fine-tuning.
        video_mask_ratio: The same of the video.
        batch_size: Clips of a batch on one process.
        forward_flops: Forward FLOPs of one clip by part, mean over the epoch.
    """

    audio_mask_ratio: float | None
    video_mask_ratio: float | None
    batch_size: int
    forward_flops: dict[str, float]


def mean_flops(flops: Sequence[Mapping[str, int | float]]) -> dict[str, float]:
    """Mean of several counts by part."""
    return {part: sum(parts[part] for parts in flops) / len(flops) for part in flops[0]}


def planning_parser(prog: str) -> ArgumentParser:
    """A parser of the configs of trainings."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a config of a training, or the name of a packaged one")
    parser.add_subclass_arguments(L.LightningModule, "model", required=True)
    parser.add_class_arguments(ClipDataModule, "data")
    parser.add_argument("--trainer", type=dict[str, Any], default={}, help="max_epochs and callbacks are read")
    for name in ("--seed_everything", "--ckpt_path"):
        parser.add_argument(name, type=Any, help="left aside")
    return parser


def plan(parser: ArgumentParser, config: Namespace) -> list[EpochPlan]:
    """The epochs of a run.

    Args:
        parser: The parser that read the config.
        config: What it read.

    Raises:
        ValueError: If the module is none that is trained, if it cannot read the data's streams or window, or if the
            run has no number of epochs.
    """
    trainer = config.pop("trainer")
    with torch.device("meta"):  # tensors have sizes, but no values: nothing is drawn or held
        built = parser.instantiate(config)
    module, data = built.model, built.data
    if not isinstance(module, TrainedModule):
        raise ValueError(f"model must be a TrainedModule to have its FLOPs counted, got {type(module).__name__}")
    require_streams(module, data, "fit")
    require_whole_patches(module, data)
    max_epochs = trainer.get("max_epochs")
    if not isinstance(max_epochs, int) or max_epochs < 1:
        raise ValueError(f"trainer.max_epochs must be at least 1 to plan a run, got {max_epochs}")
    max_steps = trainer.get("max_steps", -1)
    if max_steps != -1:
        raise ValueError(f"trainer.max_steps must be left out to plan a run by epochs, got {max_steps}")
    check_number("trainer.max_epochs", max_epochs, limit=MAX_EPOCHS)
    callbacks = _callbacks(trainer.get("callbacks") or [])
    curriculum = next((c for c in callbacks if isinstance(c, MaskRatioCurriculum)), None)
    adaptive = next((c for c in callbacks if isinstance(c, AdaptiveBatchSize)), None)
    sizes = [data.batch_size] * max_epochs
    if adaptive is not None and curriculum is not None and isinstance(module, PretrainModule):
        sizes = adaptive.sizes(curriculum, module, data, max_epochs)
    audio_size = None if data.modalities == "video" else data.audio_size
    video_size = None if data.modalities == "audio" else data.video_size
    epochs = []
    for epoch, size in enumerate(sizes):
        ratios, counts = [], []
        moments = MOMENTS if curriculum is not None and curriculum.per == "step" else 1
        for k in range(moments):
            if curriculum is not None and isinstance(module, PretrainModule):
                at = epoch if moments == 1 else epoch + (k + 0.5) / moments
                module.audio_mask_ratio, module.video_mask_ratio = curriculum.ratios_of_epoch(at, max_epochs)
            if isinstance(module, PretrainModule):
                ratios.append((module.audio_mask_ratio, module.video_mask_ratio))
            counts.append(module.forward_flops(audio_size, video_size))
        audio, video = (sum(r) / moments for r in zip(*ratios, strict=True)) if ratios else (None, None)
        epochs.append(
            EpochPlan(audio_mask_ratio=audio, video_mask_ratio=video, batch_size=size, forward_flops=mean_flops(counts))
        )
    return epochs


def _callbacks(entries: Sequence[Any]) -> list[L.Callback]:
    """The callbacks that change what a run computes; the others may need what a plan has not."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callback", type=L.Callback)
    built = []
    for entry in entries:
        module, _, name = str(entry["class_path"]).rpartition(".")
        kind = getattr(import_module(module) if module else diffmavil.callbacks, name, None)
        if isinstance(kind, type) and issubclass(kind, (MaskRatioCurriculum, AdaptiveBatchSize)):
            built.append(parser.instantiate(parser.parse_object({"callback": entry})).callback)
    return built
