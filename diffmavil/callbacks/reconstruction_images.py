"""Pictures of what the learner makes of held-out clips, in TensorBoard."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger

from diffmavil.callbacks.reconstruction_figures import (
    frame_rows,
    frames_figure,
    pixels,
    spectrogram_figure,
    spectrogram_rows,
)
from diffmavil.checks import check_number
from diffmavil.data import ClipDataModule
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


def draw(
    views: tuple[Views, Views], batch: Batch, clip: int, data: ClipDataModule
) -> tuple[UInt8[np.ndarray, "_H _W C"], UInt8[np.ndarray, "_H _W C"]]:
    """The rows of a clip's spectrogram and those of its frames, as pictures; what is padding is left blank.

    Args:
        views: Views of the batch's spectrograms and of its frames.
        batch: The batch.
        clip: Which of its clips.
        data: Where it is from.
    """
    audio, video = views
    transform = data.audio_transform
    audio_frames = None if batch.audio_frames is None else int(batch.audio_frames[clip])
    video_frames = None if batch.video_frames is None else int(batch.video_frames[clip])
    sound = spectrogram_rows(audio, clip, audio_frames, mean=transform.mean, std=transform.std)
    shift_s = transform.frame_shift_ms / 1000
    # the window of frames lies in the middle of the sound's, or of what there is of that
    sound_s = min(transform.clip_s, sound.values["original"].shape[1] * shift_s)
    start_s = max(0.0, sound_s - data.num_frames / data.fps) / 2
    return (
        pixels(spectrogram_figure(sound, shift_s, transform.num_frames)),
        pixels(frames_figure(frame_rows(video, clip, video_frames), start_s, data.fps, data.num_frames)),
    )


class ReconstructionImages(L.Callback):
    """Shows the first clips of the validation split after each validation.

    Spectrograms and frames in rows with captions: as they are (original), as the encoder saw them (visible), as the
    decoder was shown them (noised) and as it predicted them (predicted). Padding is left blank.

    Args:
        clips: Number of clips to show, at least 1.
        every_n_epochs: Show them every so many epochs, at least 1.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, *, clips: int = 4, every_n_epochs: int = 1) -> None:
        check_number("clips", clips, at_least=1, limit=1000)
        check_number("every_n_epochs", every_n_epochs, at_least=1, limit=1_000_000)
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
        logger, data = trainer.logger, trainer.datamodule  # type: ignore[attr-defined]
        due = batch_idx == 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0 and not trainer.sanity_checking
        if not due or not isinstance(logger, TensorBoardLogger) or not isinstance(pl_module, PretrainModule):
            return
        if not isinstance(data, ClipDataModule) or not pl_module.takes_part(batch):
            return
        shown = first_clips(batch, self.clips)
        with torch.no_grad():
            if not trainer.is_global_zero or not len(shown.index):
                pl_module(shown)
                return
            views = reconstruct(pl_module, shown)
        for clip in range(len(shown.index)):
            for name, picture in zip(("audio", "video"), draw(views, shown, clip, data), strict=True):
                logger.experiment.add_image(f"{name}/{clip}", picture, trainer.global_step, dataformats="HWC")
