"""The mask ratios of a pretraining run, as a function of its progress."""

from __future__ import annotations

from typing import Literal

import lightning as L

from diffmavil.callbacks.run_length import epochs_of_run, steps_of_epoch
from diffmavil.checks import check_number
from diffmavil.modules import PretrainModule
from diffmavil.schedules import Schedule
from diffmavil.types import Batch


class MaskRatioCurriculum(L.Callback):
    """Sets the pretraining module's mask ratios before every step.

    Its end is that of the run, be it ``max_epochs`` or the epoch in which ``max_steps`` is reached.
    The ratios are computed when they are used, so a run that is resumed in the middle of an epoch has the right ones.

    Args:
        audio: Schedule of the share of the spectrogram's patches that is hidden, within [0, 1).
        video: Schedule of the share of the video's patches that is hidden, within [0, 1).
        per: Change them at every ``epoch`` (the last epoch is at the schedule's end) or at every ``step``.

    Source: DiffMAViL, arXiv:2310.03937 (a ratio that falls over training; its end points are our reading).

    Raises:
        ValueError: If a schedule leaves [0, 1).
    """

    def __init__(self, *, audio: Schedule, video: Schedule, per: Literal["epoch", "step"] = "epoch") -> None:
        for name, schedule in (("audio", audio), ("video", video)):
            for end in (schedule.start, schedule.end):
                check_number(f"{name} mask ratio", end, at_least=0, below=1)
        self.audio, self.video, self.per = audio, video, per
        self.epochs: int | None = None
        """Epochs of the run, where another callback makes their batches and so knows (AdaptiveBatchSize)."""

    def ratios_of_epoch(self, epoch: int | float, max_epochs: int) -> tuple[float, float]:
        """Audio and video ratio with which epoch ``epoch`` of ``max_epochs`` begins (1.5: the middle of the second)."""
        steps = max_epochs - 1 if self.per == "epoch" else max_epochs
        progress = epoch / steps if steps > 0 else 0.0
        return self.audio.at(progress), self.video.at(progress)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Set the ratios of this step."""
        self._set(trainer, pl_module, batch_idx)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set those of the step before it, where a run is resumed between the two."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._set(trainer, pl_module, trainer.fit_loop.batch_idx)

    def _set(self, trainer: L.Trainer, pl_module: L.LightningModule, batch_idx: int) -> None:
        if not isinstance(pl_module, PretrainModule):
            raise ValueError(f"MaskRatioCurriculum needs a PretrainModule, got {type(pl_module).__name__}")
        batches = int(trainer.num_training_batches)
        epochs = self.epochs or epochs_of_run(
            trainer, lambda epochs: [steps_of_epoch(trainer, epoch, batches) for epoch in range(epochs)]
        )
        if epochs is None:
            raise ValueError("MaskRatioCurriculum needs trainer.max_epochs or trainer.max_steps, got neither")
        epoch: int | float = trainer.current_epoch
        if self.per == "step" and batches:
            epoch += batch_idx / batches
        pl_module.audio_mask_ratio, pl_module.video_mask_ratio = self.ratios_of_epoch(epoch, epochs)
