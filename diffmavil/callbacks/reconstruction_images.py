"""Pictures of what the learner makes of held-out clips, in TensorBoard."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import lightning as L
import torch
from einops import rearrange
from jaxtyping import Float
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from diffmavil.data.transforms import unnormalise_frames
from diffmavil.models.reconstruct import Views, reconstruction_views
from diffmavil.modules import PretrainModule
from diffmavil.types import Batch, ModelOutput


def first_clips(batch: Batch, count: int) -> Batch:
    """The first ``count`` clips of a batch."""
    kept: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        kept[field.name] = None if value is None else value[:count]
    return Batch(**kept)


def reconstruct(module: PretrainModule, batch: Batch) -> tuple[Views, Views]:
    """Mask and reconstruct a batch; views of its spectrograms and of its frames, in the model's input units."""
    assert batch.audio is not None and batch.video is not None
    output: ModelOutput = module(batch)
    model = module.model
    audio = model.audio_encoder.patchify(batch.audio, batch.audio_frames)
    video = model.video_encoder.patchify(batch.video, batch.video_frames)
    return (
        reconstruction_views(audio, model.audio_encoder.patch_size, output.audio),
        reconstruction_views(video, model.video_encoder.patch_size, output.video),
    )


def spectrogram_sheet(views: Views, clip: int) -> Float[Tensor, "1 H W"]:
    """The four views of one spectrogram one below the other, low bins at the bottom, grey values in [0, 1]."""
    rows = [views.original, views.visible, views.corrupted, views.predicted]
    sheet = torch.cat([rearrange(row[clip], "1 t f -> 1 f t").flip(1) for row in rows], dim=1)
    low, high = views.original[clip].min(), views.original[clip].max()
    return ((sheet - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


def frame_sheet(views: Views, clip: int) -> Float[Tensor, "3 H W"]:
    """The four views of one clip's frames, one row each, time to the right, colours in [0, 1]."""
    rows = [views.original, views.visible, views.corrupted, views.predicted]
    pictures = [unnormalise_frames(rearrange(row[clip], "c t h w -> t c h w")) for row in rows]
    return torch.cat([rearrange(row, "t c h w -> c h (t w)") for row in pictures], dim=1).clamp(0, 1)


class ReconstructionImages(L.Callback):
    """Shows the first clips of the validation split after each validation.

    Spectrograms and frames, one row each: as they are, as the encoder saw them, as the decoder was shown them (noised)
    and as it predicted them.

    Args:
        clips: Number of clips to show, at least 1.
        every_n_epochs: Show them every so many epochs, at least 1.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, *, clips: int = 4, every_n_epochs: int = 1) -> None:
        if clips < 1 or every_n_epochs < 1:
            raise ValueError(f"clips and every_n_epochs must be at least 1, got {clips} and {every_n_epochs}")
        self.clips, self.every_n_epochs = clips, every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw and log; every process runs the model, because it may be spread over them, and the first one logs."""
        logger = trainer.logger
        due = batch_idx == 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0 and not trainer.sanity_checking
        if not due or not isinstance(logger, TensorBoardLogger) or not isinstance(pl_module, PretrainModule):
            return
        if not pl_module.takes_part(batch):
            return
        shown = first_clips(batch, self.clips)
        with torch.no_grad():
            if not trainer.is_global_zero or not len(shown.index):
                pl_module(shown)
                return
            audio, video = reconstruct(pl_module, shown)
        for clip in range(len(audio.original)):
            step = trainer.global_step
            logger.experiment.add_image(f"audio/{clip}", spectrogram_sheet(audio, clip), step)
            logger.experiment.add_image(f"video/{clip}", frame_sheet(video, clip), step)
