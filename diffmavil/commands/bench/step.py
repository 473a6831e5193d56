"""The training step of a recipe, repeated on clips at hand, and its cost in seconds and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor
from torch.optim import AdamW

from diffmavil.callbacks.compute_accounting import clock_s
from diffmavil.callbacks.saved_bytes import saved_bytes
from diffmavil.commands.bench.recipe import Point, Recipe
from diffmavil.commands.bench.settings import Precision
from diffmavil.data import ClipDataModule
from diffmavil.modules.compilation import CompiledBlocks
from diffmavil.types import RawBatch


class TrainingStep:
    """All that a training does with a batch: to the device, spectrograms, forward, losses, backward, optimiser.

    Args:
        recipe: What is trained.
        device: Where.
        precision: 32-true or bf16-mixed.
    """

    def __init__(self, recipe: Recipe, *, device: torch.device, precision: Precision) -> None:
        self.device, self.precision = device, precision
        self.data = recipe.data
        self.module = recipe.module.to(device).train()
        self.optimizer = AdamW(self.module.parameter_groups(), betas=self.module.betas, fused=True)

    def compile(self, backend: str = "inductor") -> None:
        """Compile the model from now on, as a training with ``model.compile`` does.

        Args:
            backend: torch.compile's backend.
        """
        CompiledBlocks(self.module, backend=backend)

    def set_ratios(self, point: Point) -> None:
        """Put a moment of the curriculum in force."""
        self.module.audio_mask_ratio, self.module.video_mask_ratio = point.audio_mask_ratio, point.video_mask_ratio

    def seconds(self, raw: RawBatch) -> float:
        """Run one step on a batch as it comes from a data worker, and time it."""
        start = clock_s(self.device)
        self.run(raw)
        return clock_s(self.device) - start

    def run(self, raw: RawBatch) -> None:
        """Run one step, without waiting for the device."""
        self.loss(raw).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, raw: RawBatch) -> Tensor:
        """The objective, on masks and noise that are the same at every call."""
        self.module.seed_step(0, 0)
        batch = self.data.prepare(raw, self.device)
        with self._autocast():
            return self.module.total(self.module.losses(self.module(batch)))

    def saved_bytes(self, raw: RawBatch) -> int:
        """Bytes that autograd keeps of a batch between forward and backward pass, the weights left out."""
        return saved_bytes(lambda: self.loss(raw), self.module)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16-mixed")


def noise_clips(data: ClipDataModule, clips: int) -> RawBatch:
    """A batch as data workers send it, of full clips of noise.

    Args:
        data: Says the size of a clip.
        clips: How many.
    """
    generator = torch.Generator().manual_seed(0)
    samples, (frames, height, width) = data.audio_transform.num_samples, data.video_size
    raw = RawBatch(
        index=torch.arange(clips),
        waveform=torch.randint(-(2**15), 2**15, (clips, samples), dtype=torch.int16, generator=generator),
        frames=torch.randint(256, (clips * frames * height * width * 3,), dtype=torch.uint8, generator=generator),
        frame_sizes=[(height, width)] * clips,
        flipped=torch.arange(clips) % 2 == 1,
    )
    return raw.pin_memory() if torch.cuda.is_available() else raw


def first_clips(raw: RawBatch, clips: int) -> RawBatch:
    """A smaller batch of :func:`noise_clips`, whose pictures are all of one size."""
    part = {name: getattr(raw, name)[:clips] for name in ("index", "waveform", "frame_sizes", "flipped")}
    assert raw.frames is not None
    return replace(raw, **part, frames=raw.frames[: len(raw.frames) // len(raw.index) * clips])


def seconds_per_clip(points: Sequence[Point], seconds: Sequence[float]) -> float:
    """Seconds that a run takes for a clip, mean over its epochs.

    Args:
        points: Epochs that were timed.
        seconds: What one step took at each.
    """
    return sum(point.weight * s / point.clips for point, s in zip(points, seconds, strict=True))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and extremes over the rounds."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def saved(baseline: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """What is saved against a baseline, as a fraction: median and extremes of round by round.

    Args:
        baseline: Cost of the baseline in each round.
        values: Cost of what is compared with it, in the same rounds.
    """
    return spread([1 - b / a for a, b in zip(baseline, values, strict=True)])
