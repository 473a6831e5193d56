"""What all trained modules share: step sizes by progress, randomness by step, what ends or saves a run, checkpoints."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import AdamW, Optimizer

from diffmavil import __version__, keys
from diffmavil.checks import check_betas, check_number, check_seed
from diffmavil.models.checkpoint_values import shown
from diffmavil.models.checkpoints import MARK, mark_checkpoint
from diffmavil.models.origin import Origin, check_patches, origin_of, write_origin
from diffmavil.modules.attached import data_of, trainer_of
from diffmavil.modules.checkpoint_checks import check_checkpoint
from diffmavil.modules.checkpoint_paths import keep_own_paths
from diffmavil.modules.compilation import CompiledBlocks
from diffmavil.modules.finite import stop_where_not_finite
from diffmavil.modules.folder_watch import FolderWatch
from diffmavil.modules.halving import BatchTooLargeError, in_halves
from diffmavil.modules.lightning_settings import check_settings
from diffmavil.modules.monitors import check_monitors_at_end, check_monitors_at_start
from diffmavil.modules.resume_point import begins_an_epoch, mark_validation, set_resume_point
from diffmavil.modules.sharding import is_sharded, shard
from diffmavil.modules.window_note import note_other_window
from diffmavil.ops.distributed import several_ranks
from diffmavil.optim import number_by_model
from diffmavil.schedules import warmup_cosine
from diffmavil.types import Batch

T = TypeVar("T")

HALVED: Final = "halved"
"""Where a checkpoint keeps that the batches are put through the network in halves."""


def run_progress(trainer: L.Trainer, batch_idx: int) -> float:
    """Share of a run that is done before batch ``batch_idx`` of the current epoch, in [0, 1].

    Of epochs (with the part of the current one, so it holds whatever the batch size does) or of steps, whichever is
    further: the run ends with the first.
    """
    progress = 0.0
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        done = batch_idx / trainer.num_training_batches if trainer.num_training_batches else 0.0
        progress = (trainer.current_epoch + done) / trainer.max_epochs
    if trainer.max_steps > 0:
        progress = max(progress, trainer.global_step / trainer.max_steps)
    return min(progress, 1.0)


class TrainedModule(L.LightningModule, ABC):
    """Base of the modules that train a network.

    Args:
        warmup: Share of the run in which the learning rate rises, in [0, 1).
        lr_end: Learning rate at the end over the peak, in [0, 1].
        betas: AdamW's decay rates of the first and the second moment, in [0, 1).
        seed: With epoch, step and rank it fixes all masks, noise and augmentation of a training step.
        compile: Train with compiled transformer blocks (torch.compile).
        halved: Put each training batch through the network in two halves.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self, *, warmup: float, lr_end: float, betas: tuple[float, float], seed: int, compile: bool, halved: bool
    ) -> None:
        super().__init__()
        check_number("warmup", warmup, at_least=0, below=1)
        check_number("lr_end", lr_end, at_least=0, at_most=1)
        check_betas(betas)
        check_seed("seed", seed)
        self.warmup, self.lr_end, self.betas, self.seed = warmup, lr_end, betas, seed
        self._compiles, self.halved = compile, halved
        self.compiled: CompiledBlocks | None = None
        """The compiled blocks of a training, if it compiles any."""
        self._folder_watch: FolderWatch | None = None
        self.lr_scale = 1.0
        """Factor on every learning rate, for a batch whose size changes."""
        self.origin = Origin()
        """How the model was built, for checkpoints; a command sets the builder that its config names."""

    @classmethod
    def kind(cls) -> str:
        """What checkpoints say they are of: the class, or for a subclass from elsewhere the one of ours it extends."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("diffmavil."))

    @abstractmethod
    def forward_flops(
        self, audio_size: tuple[int, int] | None, video_size: tuple[int, int, int] | None
    ) -> dict[str, int]:
        """Forward FLOPs of one training clip by part, at the settings in force.

        Args:
            audio_size: Spectrogram frames and mel bins; ``None`` where the clips have no sound.
            video_size: Frames, height and width (pixels); ``None`` where they have no pictures.
        """

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser, each with its ``peak_lr``."""

    def configure_callbacks(self) -> list[L.Callback]:
        """Add no callback, but look at those that there are: Lightning asks before it does anything else.

        Raises:
            ValueError: If one would be overridden.
        """
        check_settings(self.trainer)
        return []

    def configure_model(self) -> None:
        """Spread the network over the processes, where the strategy is Lightning's ModelParallelStrategy (FSDP2).

        Raises:
            ValueError: If the strategy asks for tensor parallelism.
        """
        mesh = self.device_mesh
        if mesh is None:
            return
        if (size := mesh["tensor_parallel"].size()) != 1:
            raise ValueError(f"trainer.strategy.tensor_parallel_size must be 1, got {size}")
        shard(self.get_submodule("model"), mesh["data_parallel"])

    def configure_optimizers(self) -> AdamW:
        """AdamW; its step sizes are set at every step from the progress of the run."""
        # Lightning does not clip the gradients of a fused optimiser in mixed precision, neither fp16 nor bf16
        clips = bool(self.trainer.gradient_clip_val) and self.trainer.precision in ("16-mixed", "bf16-mixed")
        return AdamW(self.parameter_groups(), betas=self.betas, fused=not clips)

    def on_fit_start(self) -> None:
        """Compile, where that is wanted."""
        if self._compiles and self.compiled is None:
            self.compiled = CompiledBlocks(self)

    def on_train_start(self) -> None:
        """Let the settings of this run stand where a checkpoint brought its own.

        Raises:
            ValueError: If a callback watches a metric of a validation that is not made.
        """
        check_monitors_at_start(self.trainer, data_of(self))
        folder = self.trainer.log_dir or self.trainer.default_root_dir  # log_dir is a broadcast: all ranks must ask
        self._folder_watch = FolderWatch(Path(folder)) if self.trainer.is_global_zero else None
        if begins_an_epoch(self.trainer):
            # with max_steps, Lightning takes each resumed run for one in mid-epoch
            self.trainer.fit_loop.epoch_loop.restarting = False
        groups = self.trainer.optimizers[0].param_groups
        for group, wanted in zip(groups, self.parameter_groups(), strict=True):
            group.update({name: value for name, value in wanted.items() if name != "params"}, betas=self.betas)

    def require_run_folder(self) -> None:
        """End a run whose folder is gone, before anything is written where it was.

        Raises:
            FolderGoneError: If it is.
        """
        if self._folder_watch is not None:
            self._folder_watch.check()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set step sizes and seed the step."""
        factor = warmup_cosine(run_progress(self.trainer, batch_idx), warmup=self.warmup, end=self.lr_end)
        factor *= self.lr_scale
        groups = self.trainer.optimizers[0].param_groups
        for group in groups:
            group["lr"] = group["peak_lr"] * factor
        self.log(keys.LR, max(group["lr"] for group in groups))
        self._index = batch.index
        self.seed_step(self.current_epoch, batch_idx)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, and look at them and at the loss before the optimiser does.

        Raises:
            NotFiniteError: If one of them is infinite or no number.
        """
        super().backward(loss, *args, **kwargs)
        stop_where_not_finite(self, loss, self._index)

    def put_through(self, network: Callable[[Batch], T], batch: Batch) -> T:
        """What a network makes of a batch; in training in two halves, where memory needs it.

        Of several ranks each finds out for itself: none waits for another in a forward pass, unless it is sharded.
        """
        divisible = torch.is_grad_enabled() and len(batch.index) > 1
        if divisible and not self.halved and several_ranks() and not is_sharded(self):
            try:
                return network(batch)
            except torch.OutOfMemoryError:
                pass  # the error holds on to what filled the memory until here
            self._halve_from_here_on()
        return in_halves(network, batch) if divisible and self.halved else network(batch)

    def _halve_from_here_on(self) -> None:
        torch.cuda.empty_cache()
        where = f"with {len(self._index)} clips a batch on rank {self.global_rank}"
        warnings.warn(
            f"out of memory {where}: from here on each batch is put through the network in two halves, which is slower",
            stacklevel=2,
        )
        self.halved = True

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any | None] | None = None,
    ) -> None:
        """Compute a step and take it. Where its memory runs out, halve the batch, once for all, and compute it again.

        A step has the same clips and the same objective as before, so neither data nor learning rate need to know.
        Several ranks wait for each other in the backward pass, where one of them cannot begin it anew (in the forward
        pass it can: :meth:`put_through`). Nor can a step that accumulates the gradients of several batches.

        Raises:
            BatchTooLargeError: If the memory runs out again, with several ranks, or with accumulated gradients.
        """
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        except torch.OutOfMemoryError as error:
            text = f"out of memory with {len(self._index)} clips a batch" + (", put through in halves" * self.halved)
            alone = self.trainer.world_size == 1 and self.trainer.accumulate_grad_batches == 1
            if self.halved or not alone or len(self._index) < 2:
                advice = "a smaller data.batch_size" + ("" if self.halved else " or model.halved: true")
                raise BatchTooLargeError(f"{text}: go on from the last checkpoint with {advice}") from error
        # here, not in the handler: the error holds on to what filled the memory
        optimizer.zero_grad()
        self._halve_from_here_on()
        self.seed_step(epoch, batch_idx)
        self.optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def on_train_epoch_end(self) -> None:
        """Log how much has been compiled so far.

        Raises:
            ValueError: If a callback watches a metric that was not logged.
        """
        self.require_run_folder()
        check_monitors_at_end(self.trainer)
        if self.compiled is not None:
            self.log(keys.COMPILATIONS, float(self.compiled.count))

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the step, alike in every epoch, so that validation losses compare."""
        self.seed_step(-1, batch_idx)

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Seed the step."""
        self.seed_step(-1, batch_idx)

    def takes_part(self, batch: Batch) -> bool:
        """Whether this process makes an evaluation step: with clips, and without where other processes wait for it."""
        return len(batch.index) > 0 or self.trainer.world_size > 1

    def log_means(self, losses: dict[str, Tensor], batch: Batch) -> None:
        """Log means over the clips of all processes, to which a batch without clips adds nothing."""
        clips = len(batch.index)
        values = losses if clips else {name: torch.zeros_like(value) for name, value in losses.items()}
        # Lightning takes the mean of the processes' numbers of clips and cuts it down to an integer
        self.log_dict(values, batch_size=clips * self.trainer.world_size, sync_dist=True)

    def seed_step(self, epoch: int, batch_idx: int) -> None:
        """Make all that is drawn from here on a function of seed, epoch, step and rank."""
        seed = ((self.seed * 1_000_003 + epoch + 1) * 1_000_003 + batch_idx) * 4099 + self.global_rank
        torch.manual_seed(seed % 2**63)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint as ours, and number the optimiser's states as every strategy reads them."""
        self.require_run_folder()
        mark_checkpoint(checkpoint, self.kind(), __version__)
        if self.halved:
            checkpoint[MARK][HALVED] = True
        data = data_of(self)
        write_origin(checkpoint, replace(self.origin, window=None if data is None else data.window))
        mark_validation(self.trainer, checkpoint)
        states = checkpoint.get("optimizer_states", [])  # a checkpoint of the weights alone has none
        for state, optimizer in zip(states, self.trainer.optimizers, strict=False):
            number_by_model(state, optimizer, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not ours, does not fit or is damaged, in one line; and follow no path in it.

        Raises:
            CheckpointError: If so.
        """
        name, trainer, data = "the checkpoint", trainer_of(self), data_of(self)
        resume = trainer is not None and trainer.state.fn == "fit"
        check_checkpoint(checkpoint, self, name=name, resume=resume, trainer=trainer, data=data)
        origin = origin_of(checkpoint, name)
        check_patches(self.origin, origin, name)
        note_other_window(data, origin, name)
        self.halved = self.halved or checkpoint[MARK].get(HALVED, False)
        if trainer is None:
            return
        dropped = keep_own_paths(checkpoint.get("callbacks", {}), trainer.callbacks, str(trainer.ckpt_path))  # type: ignore[attr-defined]
        if not resume:
            checkpoint.pop("loops", None)  # how far some other measurement had come
            return
        if dropped:
            named = ", ".join(shown(path) for path in dropped[:3]) + ", ..." * (len(dropped) > 3)
            rank_zero_info(f"the checkpoint names files that are no checkpoints of this run, forgotten: {named}")
        if self.uses_adamw() and "optimizer_states" in checkpoint:
            groups = self.configure_optimizers().param_groups  # the settings of this run stand
            for group, own in zip(checkpoint["optimizer_states"][0]["param_groups"], groups, strict=True):
                settings = {name: value for name, value in own.items() if name != "params"}
                numbers = group["params"]
                group.clear()
                group |= {"params": numbers, **settings}
        set_resume_point(checkpoint)

    @classmethod
    def uses_adamw(cls) -> bool:
        """Whether the optimiser is ours, and not one of a subclass."""
        return cls.configure_optimizers is TrainedModule.configure_optimizers
