"""A batch that grows when more of each clip is hidden."""

from __future__ import annotations

import lightning as L

from diffmavil import keys
from diffmavil.callbacks.mask_ratio_curriculum import MaskRatioCurriculum
from diffmavil.data import ClipDataModule
from diffmavil.flops import num_patches
from diffmavil.modules import PretrainModule
from diffmavil.schedules import batch_size_at_constant_tokens
from diffmavil.types import Batch


class AdaptiveBatchSize(L.Callback):
    """Chooses each epoch's batch size so that a batch holds about as many visible tokens throughout.

    ``data.batch_size`` is the size in the last epoch; the sizes of the others follow from the ratios of the
    :class:`MaskRatioCurriculum` in the same run. Needs ``trainer.reload_dataloaders_every_n_epochs: 1``.

    Args:
        multiple: The batch is a multiple of this, cut down.
        limit: The batch is at most this, per process.

    Source: DiffMAViL, arXiv:2310.03937 (adaptive batch size; the rule is our reading).

    Raises:
        ValueError: If ``multiple`` or ``limit`` is below 1.
    """

    def __init__(self, *, multiple: int = 1, limit: int = 4096) -> None:
        if multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {multiple}")
        if limit < multiple:
            raise ValueError(f"limit must be at least multiple {multiple}, got {limit}")
        self.multiple, self.limit = multiple, limit

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Tell the data module.

        Raises:
            ValueError: If the run has no curriculum or no end.
        """
        if stage != "fit":
            return
        curricula = [c for c in trainer.callbacks if isinstance(c, MaskRatioCurriculum)]  # type: ignore[attr-defined]
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not curricula or not isinstance(pl_module, PretrainModule) or not isinstance(data, ClipDataModule):
            raise ValueError("AdaptiveBatchSize needs a MaskRatioCurriculum, a PretrainModule and a ClipDataModule")
        max_epochs = trainer.max_epochs
        if max_epochs is None or max_epochs < 1:
            raise ValueError(f"AdaptiveBatchSize needs trainer.max_epochs to be at least 1, got {max_epochs}")
        curriculum, model = curricula[0], pl_module.model
        audio_patches = num_patches(model.audio_encoder, data.audio_size)
        video_patches = num_patches(model.video_encoder, data.video_size)

        def visible_tokens(epoch: int) -> float:
            audio, video = curriculum.ratios_of_epoch(epoch, max_epochs)
            return audio_patches * (1 - audio) + video_patches * (1 - video)

        def batch_size_of_epoch(epoch: int) -> int:
            return batch_size_at_constant_tokens(
                batch_size=data.batch_size,
                reference_tokens=visible_tokens(max_epochs - 1),
                tokens=visible_tokens(epoch),
                multiple=self.multiple,
                limit=self.limit,
            )

        data.batch_size_of_epoch = batch_size_of_epoch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Log the size in force."""
        pl_module.log(keys.BATCH_SIZE, float(len(batch.index)))
