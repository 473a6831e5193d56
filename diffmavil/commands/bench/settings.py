"""What the benchmarks measure, and how: their options. Nothing heavy is imported here, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from diffmavil.checks import MAX_BATCH, MAX_CLIPS, MAX_TIMEOUT_S, MAX_WORKERS, check_number
from diffmavil.sizes import SizeName

RECIPES: Final = ("pretrain_mavil.yaml", "pretrain.yaml", "pretrain_efficient.yaml")
"""The packaged recipes of pretraining, the baseline first."""

Precision = Literal["32-true", "bf16-mixed"]
Device = Literal["cpu", "cuda"]

PARTS: Final = ("device", "tests", "recipes", "profile", "path", "training")
"""The parts of the page, in order."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how.

    Args:
        recipes: Configs of pretraining; what is saved is against the first.
        size: Size of their models; default: base on a GPU, small on a CPU.
        num_frames: Frames of video, over the same seconds; default: as the recipes say.
        batch_size: Clips of a batch in the last epoch, in place of ``data.batch_size``; the batches of the other epochs
            in proportion. Default: as the recipes say on a GPU, 4 on a CPU.
        rounds: How often every recipe is timed, in turn.
        points: Epochs of a recipe that are timed in a round, spread over its whole curriculum.
        precision: 32-true or bf16-mixed; default: bf16-mixed on a GPU, 32-true on a CPU.
        device: cpu or cuda; default: cuda where there is one.
        compile: Time the recipes with ``torch.compile`` too, as ``model.compile`` trains.
        profile: Say in which operations the time of a step goes.
        growth: Say how the cost of a step grows with the batch, the tokens and the visible share.

    Raises:
        ValueError: If a number is out of its range, or the device is not there.
    """

    recipes: tuple[str, ...] = RECIPES
    size: SizeName | None = None
    num_frames: int | None = None
    batch_size: int | None = None
    rounds: int = 5
    points: int = 5
    precision: Precision | None = None
    device: Device | None = None
    compile: bool = False
    profile: bool = False
    growth: bool = False

    def __post_init__(self) -> None:
        if not self.recipes:
            raise ValueError("recipes must name at least one config, got none")
        check_number("num_frames", self.num_frames, at_least=1, limit=10_000, optional=True)
        check_number("batch_size", self.batch_size, at_least=1, limit=MAX_BATCH, optional=True)
        check_number("rounds", self.rounds, at_least=1, limit=1000)
        check_number("points", self.points, at_least=1, limit=1000)
        if self.device == "cuda" and not _has_gpu():
            raise ValueError("device must be cpu where there is no GPU, got cuda")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What to measure.

    Args:
        clips: Clips to make; they are read again and again.
        workers: Processes that read.
        rounds: Times that each way of reading is measured, in turns.
        seconds: About how long each measurement takes.
        batch_size: Clips of a batch.
        num_frames: Frames of a clip.
        fps: Frames a second.
        image_size: Side of the frames in pixels.
        gpu_clips_per_s: Clips a second that one GPU trains on: ViT-B at half of an H200's measured 790 TFLOP/s.

    Raises:
        ValueError: If a number is out of its range.
    """

    clips: int = 12
    workers: int = 2
    rounds: int = 3
    seconds: float = 10.0
    batch_size: int = 32
    num_frames: int = 8
    fps: float = 2.0
    image_size: int = 224
    gpu_clips_per_s: float = 640.0

    def __post_init__(self) -> None:
        check_number("clips", self.clips, at_least=1, limit=100_000)
        check_number("workers", self.workers, at_least=1, limit=MAX_WORKERS)
        check_number("rounds", self.rounds, at_least=1, limit=1000)
        check_number("seconds", self.seconds, above=0, limit=MAX_TIMEOUT_S)
        check_number("batch_size", self.batch_size, at_least=1, limit=MAX_BATCH)
        check_number("num_frames", self.num_frames, at_least=1, limit=10_000)
        check_number("fps", self.fps, above=0, limit=1000)
        check_number("image_size", self.image_size, at_least=1, limit=4096)
        check_number("gpu_clips_per_s", self.gpu_clips_per_s, above=0, limit=1e9)


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """What to measure.

    Args:
        rows: Clips of the list.

    Raises:
        ValueError: If it is below 1000.
    """

    rows: int = 2_000_000

    def __post_init__(self) -> None:
        check_number("rows", self.rows, at_least=1000, limit=MAX_CLIPS)


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
    rounds: int = 3
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
    def precision(self) -> Precision:
        """That in which it is trained on."""
        return "bf16-mixed" if self.device == "cuda" else "32-true"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
