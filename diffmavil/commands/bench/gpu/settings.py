"""What ``diffmavil bench gpu`` measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from diffmavil.checks import MAX_BATCH, MAX_CLIPS, MAX_WORKERS, check_number
from diffmavil.commands.bench.recipe import RECIPES, Device, Precision
from diffmavil.models.builders import SizeName

PARTS: Final = ("device", "tests", "recipes", "profile", "path", "training")
"""The parts of the page, in order."""


@dataclass(frozen=True, kw_only=True)
class GpuSettings:
    """What is measured, and how.

    Args:
        parts: Parts to run, of device, tests, recipes, profile, path and training.
        device: cuda, or cpu to rehearse it all with small numbers.
        recipes: Configs of pretraining that are timed and profiled.
        recipe: Config of the pretraining that is fed from clips, and of the one whose loss must fall.
        size: Size of the models that are timed, profiled and fed.
        trained_size: Size of the model whose loss must fall.
        num_frames: Frames of video of the recipes that are timed and profiled, over the same seconds.
        batch_size: Clips of a batch. Default: the largest that fits where recipes are timed, the recipe's own where it
            is fed from clips.
        most: The largest batch that is tried.
        rounds: How often every recipe is timed.
        steps: Training steps that are fed from clips; the training whose loss must fall takes no fewer.
        seconds: How long that training takes, where so much time is left.
        clips: Synthetic clips to make.
        workers: Processes that make and read clips. Default: one for each core, up to 16, less one that trains.
        minutes: The whole ends after so many.

    Raises:
        ValueError: If a number is out of its range, or a part is unknown.
    """

    parts: tuple[str, ...] = PARTS
    device: Device = "cuda"
    recipes: tuple[str, ...] = RECIPES
    recipe: str = "pretrain.yaml"
    size: SizeName = "base"
    trained_size: SizeName = "small"
    num_frames: int = 8
    batch_size: int | None = None
    most: int = 512
    rounds: int = 2
    steps: int = 100
    seconds: float = 120.0
    clips: int = 160
    workers: int | None = None
    minutes: float = 8.0

    def __post_init__(self) -> None:
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"parts must be some of {', '.join(PARTS)}, got {', '.join(self.parts) or 'none'}")
        if not self.recipes:
            raise ValueError("recipes must name at least one config, got none")
        check_number("num_frames", self.num_frames, at_least=1, limit=10_000)
        check_number("batch_size", self.batch_size, at_least=2, limit=MAX_BATCH, optional=True)
        check_number("most", self.most, at_least=8, limit=MAX_BATCH)
        check_number("rounds", self.rounds, at_least=1, limit=1000)
        check_number("steps", self.steps, at_least=2, limit=100_000)
        check_number("seconds", self.seconds, above=0, limit=86_400)
        check_number("clips", self.clips, at_least=40, limit=MAX_CLIPS)
        check_number("workers", self.workers, at_least=1, limit=MAX_WORKERS, optional=True)
        check_number("minutes", self.minutes, above=0, limit=1440)

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    @property
    def precision(self) -> Precision:
        """That in which it is trained on."""
        return "bf16-mixed" if self.device == "cuda" else "32-true"

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers in a matrix product."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32
