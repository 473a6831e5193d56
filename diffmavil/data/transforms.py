"""From what a worker sends to what a model reads: geometry in the worker, everything else on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float, Int, Int16, UInt8
from torch import Tensor
from torchvision.transforms import v2

from diffmavil.data.fbank import count_frames, fbank, frame_samples
from diffmavil.types import Batch, RawBatch

_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)

Geometry = Callable[[UInt8[Tensor, "T C H W"]], UInt8[Tensor, "T C S S"]]
"""Brings the pictures of a clip to the model's size, all alike."""


def train_geometry(image_size: int, crop_min_scale: float, horizontal_flip: bool) -> Geometry:
    """Random resized crop and flip, alike for all pictures of a clip; drawn from torch's global generator.

    Args:
        image_size: Side of the result in pixels.
        crop_min_scale: Smallest part of the picture's area that is kept, in (0, 1].
        horizontal_flip: Whether to mirror every other clip.
    """
    steps: list[torch.nn.Module] = [v2.RandomResizedCrop(image_size, scale=(crop_min_scale, 1.0), antialias=True)]
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip())
    geometry: Geometry = v2.Compose(steps)
    return geometry


def eval_geometry(image_size: int) -> Geometry:
    """Shorter side to ``image_size`` pixels, then the square in the centre."""
    geometry: Geometry = v2.Compose([v2.Resize(image_size, antialias=True), v2.CenterCrop(image_size)])
    return geometry


@dataclass(frozen=True, kw_only=True)
class AudioTransform:
    """Normalised log-mel spectrograms of a fixed number of frames.

    Args:
        clip_s: Length of the window.
        sample_rate_hz: Sample rate.
        num_mel_bins: Mel bins.
        frame_shift_ms: Time from one frame to the next.
        mean: Mean of the log-mel values of the data set.
        std: Their standard deviation; the result is (x - mean) / std.
    """

    clip_s: float
    sample_rate_hz: int
    num_mel_bins: int
    frame_shift_ms: float
    mean: float
    std: float

    @property
    def num_frames(self) -> int:
        """Frames of a window."""
        return round(self.clip_s * 1000 / self.frame_shift_ms)

    @property
    def num_samples(self) -> int:
        """Samples under a window's frames: the last frame reaches 15 ms beyond ``clip_s``."""
        length, shift = frame_samples(self.sample_rate_hz, self.frame_shift_ms)
        return (self.num_frames - 1) * shift + length

    @property
    def min_samples(self) -> int:
        """Samples with which a window counts as full: less than one frame shift of ``clip_s`` is missing."""
        return round(self.clip_s * self.sample_rate_hz) - frame_samples(self.sample_rate_hz, self.frame_shift_ms)[1] + 1

    def features(
        self, waveform: Int16[Tensor, "B S"], num_samples: Int[Tensor, " B"] | None
    ) -> tuple[Float[Tensor, "B T F"], Int[Tensor, " B"]]:
        """Log-mel values as they are, and the number of real frames of each clip."""
        if num_samples is None:
            num_samples = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        values = fbank(
            waveform.float() / 32768.0,
            num_samples,
            self.sample_rate_hz,
            self.num_mel_bins,
            self.frame_shift_ms,
        )
        return values, count_frames(num_samples, self.sample_rate_hz, self.frame_shift_ms)

    def __call__(
        self, waveform: Int16[Tensor, "B S"], num_samples: Int[Tensor, " B"] | None
    ) -> tuple[Float[Tensor, "B 1 T F"], Int[Tensor, " B"] | None]:
        """Normalised log-mel values, and the number of real frames if any clip is padded."""
        values, frames = self.features(waveform, num_samples)
        values = (values - self.mean) / self.std
        return rearrange(values, "b t f -> b 1 t f"), None if num_samples is None else frames


def normalise_frames(frames: UInt8[Tensor, "B T C H W"]) -> Float[Tensor, "B C T H W"]:
    """Pictures with ImageNet's mean and standard deviation taken out."""
    mean = torch.tensor(_IMAGENET_MEAN, device=frames.device).view(3, 1, 1, 1) * 255.0
    std = torch.tensor(_IMAGENET_STD, device=frames.device).view(3, 1, 1, 1) * 255.0
    return (rearrange(frames, "b t c h w -> b c t h w").float() - mean) / std


def unnormalise_frames(frames: Float[Tensor, "T C H W"]) -> Float[Tensor, "T C H W"]:
    """Pictures with ImageNet's mean and standard deviation put back: colours in [0, 1]."""
    mean = torch.tensor(_IMAGENET_MEAN, device=frames.device).view(3, 1, 1)
    std = torch.tensor(_IMAGENET_STD, device=frames.device).view(3, 1, 1)
    return frames * std + mean


def to_batch(raw: RawBatch, audio_transform: AudioTransform) -> Batch:
    """What a model reads, on the device of ``raw``, whose counts are ``None`` where nothing is padded."""
    batch = Batch(index=raw.index, labels=raw.labels)
    if raw.waveform is not None:
        batch.audio, batch.audio_frames = audio_transform(raw.waveform, raw.num_samples)
    if raw.frames is not None:
        batch.video, batch.video_frames = normalise_frames(raw.frames), raw.num_frames
    return batch
