"""Augmentation of model inputs in fine-tuning: SpecAugment and mixup."""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.transforms import FrequencyMasking, TimeMasking
from torchvision import tv_tensors
from torchvision.transforms import v2

from diffmavil.checks import check_number
from diffmavil.types import Batch


class SpecAugment(nn.Module):
    """Blank one band of mel bins and one stretch of frames, drawn anew for each clip.

    Blanked values become 0, the mean of a normalised spectrogram.

    Args:
        freq_mask_bins: Greatest width of the band, in mel bins; 0 for none.
        time_mask_frames: Greatest length of the stretch, in frames; 0 for none.

    Source: SpecAugment, arXiv:1904.08779, section 2.
    """

    def __init__(self, *, freq_mask_bins: int, time_mask_frames: int) -> None:
        super().__init__()
        check_number("freq_mask_bins", freq_mask_bins, at_least=0, limit=1_000_000)
        check_number("time_mask_frames", time_mask_frames, at_least=0, limit=1_000_000)
        self.freq_mask = FrequencyMasking(freq_mask_bins, iid_masks=True)
        self.time_mask = TimeMasking(time_mask_frames, iid_masks=True)

    def forward(self, x: Float[Tensor, "B 1 T F"]) -> Float[Tensor, "B 1 T F"]:
        """Blank parts of each spectrogram."""
        masked = self.time_mask(self.freq_mask(rearrange(x, "b c t f -> b c f t")))
        out: Tensor = rearrange(masked, "b c f t -> b c t f")
        return out


class Mixup(nn.Module):
    """Replace a batch by weighted sums of its clips and their neighbours, streams and labels alike.

    Args:
        alpha: Both parameters of the Beta distribution that the weight is drawn from, above 0.
        num_classes: Number of classes K.

    Source: mixup, arXiv:1710.09412; torchvision's ``v2.MixUp`` does the sums.
    """

    def __init__(self, *, alpha: float, num_classes: int) -> None:
        super().__init__()
        check_number("alpha", alpha, above=0, limit=1e6)
        check_number("num_classes", num_classes, at_least=2, limit=1_000_000)
        self.num_classes = num_classes
        with torch.device("cpu"):  # it checks alpha's value, which it has not where a plan is built without values
            self.mix = v2.MixUp(alpha=alpha, num_classes=None, labels_getter=lambda streams: streams["labels"])

    def forward(self, batch: Batch) -> Batch:
        """Mix; labels become shares of each class."""
        if batch.labels is None:
            raise ValueError("labels must be given for mixup, got none")
        labels = batch.labels
        if not labels.is_floating_point():
            labels = nn.functional.one_hot(labels, self.num_classes).float()
        streams: dict[str, Tensor] = {"labels": labels}
        if batch.audio is not None:
            streams["audio"] = tv_tensors.Image(batch.audio)
        if batch.video is not None:
            streams["video"] = tv_tensors.Video(rearrange(batch.video, "b c t h w -> b t c h w"))
        mixed = {name: torch.Tensor(value) for name, value in self.mix(streams).items()}
        video = mixed.get("video")
        return replace(
            batch,
            labels=mixed["labels"],
            audio=mixed.get("audio"),
            video=None if video is None else rearrange(video, "b t c h w -> b c t h w"),
            audio_frames=_longer(batch.audio_frames),
            video_frames=_longer(batch.video_frames),
        )


def _longer(num_frames: Tensor | None) -> Tensor | None:
    """Real frames of a sum: those of the longer clip (``v2.MixUp`` adds each clip's predecessor)."""
    return None if num_frames is None else torch.maximum(num_frames, num_frames.roll(1, 0))
