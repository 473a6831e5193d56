"""A probe for the largest batch that a GPU holds."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info

from diffmavil.callbacks.adaptive_batch_size import AdaptiveBatchSize
from diffmavil.callbacks.mask_ratio_curriculum import MaskRatioCurriculum
from diffmavil.callbacks.saved_bytes import noise_batch
from diffmavil.checks import MAX_BATCH, check_number
from diffmavil.data import ClipDataModule
from diffmavil.modules import PretrainModule
from diffmavil.modules.sharding import is_sharded


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """The largest number in [0, ``most``] that fits, where every smaller one does: by doubling, then by halves.

    Args:
        fits: Tries a number above 0.
        most: What is not exceeded.
    """
    fitting, failing = 0, 1
    while failing <= most and fits(failing):
        fitting, failing = failing, 2 * failing
    failing = min(failing, most + 1)
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting


class LargestBatch(L.Callback):
    """Sets ``data.batch_size`` to the largest at which a pretraining fits into the GPU's memory, and says so.

    Before the first step it computes losses and gradients of made clips, at the ratios and batch sizes of the first and
    the last epoch (:class:`AdaptiveBatchSize` follows what is found), with more and more clips, and then narrows down
    between the last that fit and the first that did not. Nothing is learned from them. What was found is kept in
    checkpoints, so a run that is resumed goes on with it. Of several processes all take what fits in each. On a CPU the
    batch stays as it is configured.

    Args:
        margin: Share of what was found that is left free, in [0, 1): a batch with padding needs somewhat more.
        multiple: The size is a multiple of this, cut down.
        limit: The size is at most this, and at most the clips that there are.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(self, *, margin: float = 0.1, multiple: int = 8, limit: int = 4096) -> None:
        check_number("margin", margin, at_least=0, below=1)
        check_number("multiple", multiple, at_least=1, limit=MAX_BATCH)
        check_number("limit", limit, at_least=multiple, limit=MAX_BATCH)
        self.margin, self.multiple, self.limit = margin, multiple, limit
        self.found: int | None = None
        """What was found, once it has been."""

    def state_dict(self) -> dict[str, Any]:
        """What was found, for a checkpoint."""
        return {"found": self.found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was found when the run began.

        Raises:
            ValueError: If that is no batch size.
        """
        found = state_dict.get("found")
        if found is not None and (type(found) is not int or found < 1):
            raise ValueError("the checkpoint's batch size that LargestBatch found must be an integer of at least 1")
        self.found = found

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Probe, on a GPU, and set the batch size.

        Raises:
            ValueError: If the run is no pretraining, its weights are spread over processes, or no batch fits.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, PretrainModule) or not isinstance(data, ClipDataModule):
            raise ValueError("LargestBatch needs a PretrainModule and a ClipDataModule")
        if is_sharded(pl_module):
            raise ValueError("LargestBatch needs whole weights in each process: use another strategy, or a batch_size")
        if self.found is None:
            if pl_module.device.type != "cuda":
                rank_zero_info(f"LargestBatch probes a GPU; on this device data.batch_size stays {data.batch_size}")
                return
            self.found = self.probe(trainer, pl_module, data)
        self._set(trainer, pl_module, data, self.found)

    def probe(self, trainer: L.Trainer, module: PretrainModule, data: ClipDataModule) -> int:
        """The size that is found, on whatever device the module is.

        Raises:
            ValueError: If not even ``multiple`` clips fit.
        """
        configured, tried = data.batch_size, 0

        def fits(size: int) -> bool:
            nonlocal tried
            tried += 1
            self._set(trainer, module, data, size)
            did = all(self._step_fits(trainer, module, data, *step) for step in self._steps(trainer, module, data))
            return trainer.strategy.reduce_boolean_decision(did)

        most = min(self.limit, data.num_epoch_clips // trainer.world_size) // self.multiple
        largest = largest_that_fits(lambda count: fits(count * self.multiple), most) * self.multiple
        self._set(trainer, module, data, configured)
        if not largest:
            raise ValueError(f"LargestBatch needs room for a batch of {self.multiple} clips, found none")
        found = max(self.multiple, int(largest * (1 - self.margin)) // self.multiple * self.multiple)
        rank_zero_info(
            f"LargestBatch: {largest} clips of the last epoch fit ({tried} sizes tried); data.batch_size is "
            f"{found} instead of {configured}, with a margin of {self.margin:.0%}"
        )
        return found

    def _set(self, trainer: L.Trainer, module: PretrainModule, data: ClipDataModule, size: int) -> None:
        data.batch_size = size
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, AdaptiveBatchSize):
                callback.setup(trainer, module, "fit")

    def _steps(
        self, trainer: L.Trainer, module: PretrainModule, data: ClipDataModule
    ) -> list[tuple[tuple[float, float], int]]:
        """Ratios and clips of the steps that need most: cost by clip and clips change steadily, so at either end."""
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        curriculum = next((c for c in callbacks if isinstance(c, MaskRatioCurriculum)), None)
        if curriculum is None:
            return [((module.audio_mask_ratio, module.video_mask_ratio), data.batch_size)]
        # without AdaptiveBatchSize max_steps may end the run earlier, but at the same ratios
        most = trainer.max_epochs
        epochs = curriculum.epochs or (2 if most is None or most < 1 else most)
        moments = (0,) if curriculum.per == "epoch" else (0, 1)  # an epoch's begin, and its end
        of_epoch = data.batch_size_of_epoch
        return [
            (curriculum.ratios_of_epoch(epoch + moment, epochs), of_epoch(epoch) if of_epoch else data.batch_size)
            for epoch in sorted({0, epochs - 1})
            for moment in moments
        ]

    def _step_fits(
        self,
        trainer: L.Trainer,
        module: PretrainModule,
        data: ClipDataModule,
        ratios: tuple[float, float],
        clips: int,
    ) -> bool:
        before = module.audio_mask_ratio, module.video_mask_ratio
        module.audio_mask_ratio, module.video_mask_ratio = ratios
        fits = True
        try:
            self._compute(trainer, module, data, clips)
        except torch.OutOfMemoryError:
            fits = False
        # here, not in the handler: the error holds on to what filled the memory
        module.audio_mask_ratio, module.video_mask_ratio = before
        module.train()
        module.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
        return fits

    def _compute(self, trainer: L.Trainer, module: PretrainModule, data: ClipDataModule, clips: int) -> None:
        """A step's losses and gradients, beside what the optimiser is going to keep of each weight."""
        moments = [torch.empty_like(weight) for weight in module.parameters() for _ in range(2)]
        device = module.device
        module.training = False  # of the module itself: no negatives of ranks that may not have got so far
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            batch = noise_batch(clips, data.audio_size, data.video_size, device)
            with trainer.precision_plugin.train_step_context():
                loss = module.total(module.losses(module(batch)))
            loss.backward()  # type: ignore[no-untyped-call]
        del moments
