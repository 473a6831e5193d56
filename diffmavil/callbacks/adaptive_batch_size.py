"""A batch that grows when more of each clip is hidden."""

from __future__ import annotations

from typing import Literal

import lightning as L

from diffmavil import keys
from diffmavil.callbacks.mask_ratio_curriculum import MaskRatioCurriculum
from diffmavil.callbacks.run_length import batches_of_epoch, epochs_of_run, steps_of_epoch
from diffmavil.callbacks.saved_bytes import saved_bytes_per_clip
from diffmavil.checks import MAX_BATCH, check_number
from diffmavil.data import ClipDataModule
from diffmavil.flops import num_patches
from diffmavil.modules import PretrainModule
from diffmavil.schedules import LrRule, batch_size_at_constant_cost, lr_scale
from diffmavil.types import Batch

Cost = Literal["tokens", "flops", "memory"]


class AdaptiveBatchSize(L.Callback):
    """Chooses each epoch's batch size so that a batch costs about the same throughout.

    ``data.batch_size`` is the size in the last epoch; the sizes of the others follow from the ratios of the
    :class:`MaskRatioCurriculum` in the same run (those at the epoch's start, where the curriculum changes by step).
    Needs ``trainer.reload_dataloaders_every_n_epochs: 1``.

    Args:
        constant: What a batch holds as much of in every epoch: visible ``tokens``, ``flops``, or ``memory`` (bytes that
            autograd keeps for the backward pass, measured).
        multiple: The batch is a multiple of this, cut down; of ``data.batch_size``, where that is smaller.
        limit: The batch is at most this, per process.
        lr_rule: How the learning rate, chosen for ``data.batch_size``, follows the batch: none, sqrt or linear.

    Source: DiffMAViL, arXiv:2310.03937 (adaptive batch size; the rule is our reading).

    Raises:
        ValueError: If ``multiple`` or ``limit`` is below 1.
    """

    def __init__(
        self, *, constant: Cost = "tokens", multiple: int = 1, limit: int = 4096, lr_rule: LrRule = "none"
    ) -> None:
        check_number("multiple", multiple, at_least=1, limit=MAX_BATCH)
        check_number("limit", limit, at_least=multiple, limit=MAX_BATCH)
        self.constant, self.multiple, self.limit, self.lr_rule = constant, multiple, limit, lr_rule
        self._reference: int | None = None

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
        clips = data.num_epoch_clips
        most = max(data.batch_size, clips // trainer.world_size)

        def steps(epochs: int) -> list[int]:
            batches = [
                batches_of_epoch(trainer, clips, size)
                for size in self.sizes(curricula[0], pl_module, data, epochs, most)
            ]
            return [steps_of_epoch(trainer, epoch, count) for epoch, count in enumerate(batches)]

        epochs = epochs_of_run(trainer, steps)
        if epochs is None:
            raise ValueError("AdaptiveBatchSize needs trainer.max_epochs or trainer.max_steps, got neither")
        for curriculum in curricula:
            curriculum.epochs = epochs
        sizes = self.sizes(curricula[0], pl_module, data, epochs, most)
        # a finished run that is taken up again asks for the epoch after its last
        data.batch_size_of_epoch = lambda epoch: sizes[min(epoch, len(sizes) - 1)]
        self._reference = self._reference or data.batch_size  # as configured, whatever a LargestBatch finds

    def sizes(
        self,
        curriculum: MaskRatioCurriculum,
        module: PretrainModule,
        data: ClipDataModule,
        max_epochs: int,
        clips: int | None = None,
    ) -> list[int]:
        """Batch size of each epoch, on one process.

        Args:
            curriculum: What the ratios follow.
            module: Whose cost is held constant.
            data: Where the last epoch's size and the window are set.
            max_epochs: Epochs of the run.
            clips: Clips that a process has to train on, where it is known: no batch is larger.
        """
        ratios = [curriculum.ratios_of_epoch(epoch, max_epochs) for epoch in range(max_epochs)]
        costs = {pair: self._cost(module, data, *pair) for pair in dict.fromkeys(ratios)}
        return [
            batch_size_at_constant_cost(
                batch_size=data.batch_size,
                reference_cost=costs[ratios[-1]],
                cost=costs[pair],
                multiple=min(self.multiple, data.batch_size),
                limit=self.limit if clips is None else min(self.limit, clips),
            )
            for pair in ratios
        ]

    def _cost(self, module: PretrainModule, data: ClipDataModule, audio: float, video: float) -> float:
        """Cost of a clip at these mask ratios, in the unit of ``constant``."""
        if self.constant == "tokens":
            audio_patches = num_patches(module.model.audio_encoder, data.audio_size)
            video_patches = num_patches(module.model.video_encoder, data.video_size)
            return audio_patches * (1 - audio) + video_patches * (1 - video)
        before = module.audio_mask_ratio, module.video_mask_ratio
        module.audio_mask_ratio, module.video_mask_ratio = audio, video
        if self.constant == "flops":
            cost = float(sum(module.forward_flops(data.audio_size, data.video_size).values()))
        else:
            cost = saved_bytes_per_clip(module, data.audio_size, data.video_size)
        module.audio_mask_ratio, module.video_mask_ratio = before
        return cost

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Scale the learning rate, and log the size in force."""
        assert isinstance(pl_module, PretrainModule)
        size = trainer.datamodule.batch_size_of_epoch(trainer.current_epoch)  # type: ignore[attr-defined]
        assert self._reference is not None
        pl_module.lr_scale = lr_scale(size, self._reference, self.lr_rule)
        pl_module.log(keys.BATCH_SIZE, float(len(batch.index)))
