"""The recipes that a benchmark runs, and the moments of their curriculum at which it times them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from diffmavil.commands.configs import find_config
from diffmavil.commands.plan import EpochPlan, mean_flops, plan, planning_parser
from diffmavil.data import ClipDataModule
from diffmavil.flops import TRAINING_FACTOR
from diffmavil.modules import PretrainModule
from diffmavil.sizes import SizeName


@dataclass(frozen=True, kw_only=True)
class Point:
    """An epoch that is timed in place of those around it.

    Args:
        epoch: Its number.
        weight: Share of the run's epochs that it stands for.
        audio_mask_ratio: Share of the spectrogram's patches hidden.
        video_mask_ratio: Share of the video's patches hidden.
        clips: Clips of a batch.
    """

    epoch: int
    weight: float
    audio_mask_ratio: float
    video_mask_ratio: float
    clips: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe, ready to be run.

    Args:
        name: The config.
        module: Its module, with weights, on the CPU.
        data: Its data module; no clip is read.
        points: When it is timed.
        flops: Training FLOPs of one clip, mean over the run.
    """

    name: str
    module: PretrainModule
    data: ClipDataModule
    points: list[Point]
    flops: float


def load_recipe(
    name: str, *, size: SizeName, num_frames: int | None = None, batch_size: int | None = None, points: int = 1
) -> Recipe:
    """Read a config and build what it trains.

    Args:
        name: A file, or the name of a packaged config.
        size: Size of the model.
        num_frames: Frames of video, over the same seconds; ``None``: as the config says.
        batch_size: Clips of a batch in the last epoch; ``None``: as the config says.
        points: Epochs to time.

    Raises:
        FileNotFoundError: If there is no such config.
        ArgumentError: If it is no config of a training.
        ValueError: If it pretrains nothing, or a value is out of its range.
    """
    parser = planning_parser("diffmavil bench")
    config = parser.parse_args(["--config", find_config(name), "--model.model.size", size])
    if num_frames is not None:
        config.data.fps *= num_frames / config.data.num_frames
        config.data.num_frames = num_frames
    epochs = plan(parser, config)
    torch.manual_seed(0)
    built = parser.instantiate(config)
    module, data = built.model, built.data
    if not isinstance(module, PretrainModule):
        raise ValueError(f"recipes must pretrain, got {type(module).__name__} in {name}")
    scale = 1.0 if batch_size is None else batch_size / data.batch_size
    flops = TRAINING_FACTOR * sum(mean_flops([epoch.forward_flops for epoch in epochs]).values())
    return Recipe(name=name, module=module, data=data, points=choose_points(epochs, points, scale), flops=flops)


def choose_points(epochs: list[EpochPlan], points: int, scale: float = 1.0) -> list[Point]:
    """Epochs spread evenly over a run, from the first to the last, with the share of the run that each stands for.

    A mean with these weights is that over all epochs of the straight lines between the points.

    Args:
        epochs: The plan of a pretraining run.
        points: How many to choose, at most; for one it is the last epoch.
        scale: Factor on every batch.
    """
    last = len(epochs) - 1
    chosen = np.unique(np.linspace(last, 0, points).round().astype(int))
    hats = [np.interp(np.arange(len(epochs)), chosen, hat).mean() for hat in np.eye(len(chosen))]
    result = []
    for epoch, weight in zip(chosen.tolist(), hats, strict=True):
        entry = epochs[epoch]
        assert entry.audio_mask_ratio is not None and entry.video_mask_ratio is not None, "a plan of pretraining"
        result.append(
            Point(
                epoch=epoch,
                weight=float(weight),
                audio_mask_ratio=entry.audio_mask_ratio,
                video_mask_ratio=entry.video_mask_ratio,
                clips=max(1, round(entry.batch_size * scale)),
            )
        )
    return result
