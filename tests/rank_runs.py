"""Small trainings that give the same on any number of ranks; as a script, one rank's part of all of them.

What a step draws depends on the rank. So that one process and two can be compared, each draw is made here as for the
joined batch, and each rank takes its own rows of it; the package's code runs as it is.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from small import AUDIO_SIZE, VIDEO_SIZE, batch, learner, trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.types import Batch

WORLD, CLIPS, STEPS, CLASSES = 2, 6, 2, 3
HELD_OUT = [14, 1]
"""Clips of the batches to validate with, all ranks together; the second rank has none of the last."""
AUDIO_FRAMES, VIDEO_FRAMES = [48, 20, 48, 17, 48, 33] * 3, [4, 1, 4, 4, 4, 2] * 3
"""Frames of the clips with padding: those of the first rank have none."""


class RowsOfWhole(TorchFunctionMode):
    """Draws as one process does for the clips of all ranks, and gives out this rank's rows."""

    def __init__(self, clips: int, rank: int, world: int) -> None:
        super().__init__()
        self.clips, self.rank, self.world = clips, rank, world

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn_like:
            return self._rows(torch.randn, (), args[0].shape, kwargs)
        if func is torch.rand or func is torch.randint:
            *bounds, shape = args
            return self._rows(func, bounds, shape, kwargs)
        return func(*args, **kwargs)

    def _rows(self, func: Any, bounds: Any, shape: Any, kwargs: Any) -> Tensor:
        drawn: Tensor = func(*bounds, (self.clips, *shape[1:]), **kwargs)
        return drawn[self.rank :: self.world]


class Comparable(L.LightningModule):
    """Steps whose draws are the same for any number of ranks."""

    def seed_step(self, epoch: int, batch_idx: int) -> None:
        torch.manual_seed(1000 * (epoch + 1) + batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with RowsOfWhole(CLIPS, self.global_rank, self.trainer.world_size):
            loss: Tensor = super().training_step(batch, batch_idx)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        with RowsOfWhole(HELD_OUT[batch_idx], self.global_rank, self.trainer.world_size):
            super().validation_step(batch, batch_idx)


class Pretraining(Comparable, PretrainModule):
    pass


class FineTuning(Comparable, FineTuneModule):
    pass


CONSTANT: dict[str, float] = {"lr": 1e-3, "warmup": 0.0, "lr_end": 1.0}


def pretraining(**kwargs: Any) -> PretrainModule:
    weights = {"inter_weight": 0.7, "intra_weight": 0.4, "audio_mask_ratio": 0.5, "video_mask_ratio": 0.6}
    return Pretraining(model=learner(), **{**weights, **CONSTANT, **kwargs})


def fine_tuning(**kwargs: Any) -> FineTuneModule:
    torch.manual_seed(1)
    settings = {"num_classes": CLASSES, "multi_label": True, "token_mask_ratio": 0.25, "freq_mask_bins": 8}
    return FineTuning(backbone=learner(), **{**settings, **CONSTANT, **kwargs})


CASES: dict[str, tuple[Callable[[], L.LightningModule], bool]] = {
    "pretraining": (pretraining, False),
    "pretraining, padded": (pretraining, True),
    "fine-tuning": (fine_tuning, False),
}
"""The module of each, and whether its clips are padded."""

RESUMED = [
    ("ddp", "fsdp", "pretraining"),
    ("ddp", "fsdp", "fine-tuning"),
    ("fsdp", "ddp", "pretraining"),
    ("fsdp", "ddp", "fine-tuning"),
    ("fsdp", "fsdp", "pretraining"),
]
"""Strategy that wrote a checkpoint, strategy that goes on from it, case."""


def rows(whole: Batch, rank: int, world: int) -> Batch:
    """A rank's clips of a batch, as the data module makes them: no counts where nothing is padded."""
    own: dict[str, Any] = {k: None if v is None else v[rank::world] for k, v in vars(whole).items()}
    for name, full in (("audio_frames", AUDIO_SIZE[0]), ("video_frames", VIDEO_SIZE[0])):
        if own[name] is not None and bool((own[name] == full).all()):
            own[name] = None
    return Batch(**own)


def batches(rank: int, world: int, *, padded: bool, sizes: list[int]) -> DataLoader[Batch]:
    """One rank's part of batches of so many clips, all ranks together."""
    parts = []
    for seed, clips in enumerate(sizes):
        frames = (
            {"audio_frames": (AUDIO_FRAMES * 3)[:clips], "video_frames": (VIDEO_FRAMES * 3)[:clips]} if padded else {}
        )
        whole = batch(clips, **frames, seed=10 * len(sizes) + seed)
        generator = torch.Generator().manual_seed(seed)
        labels = (torch.rand(clips, CLASSES, generator=generator) > 0.5).float()
        parts.append(rows(replace(whole, labels=labels), rank, world))
    return DataLoader(parts, batch_size=None)  # type: ignore[arg-type]


def full(values: dict[Any, Tensor]) -> dict[Any, Tensor]:
    """Parameters, gradients or states, joined from their shards (rows of each); all ranks must call it."""
    own = {name: value.to_local().numpy() for name, value in values.items() if isinstance(value, DTensor)}
    shards = [own]
    if own:
        shards = [{} for _ in range(WORLD)]
        torch.distributed.all_gather_object(shards, own)  # all at once, and as arrays: tensors take long to pickle
    joined = {name: torch.from_numpy(np.concatenate([shard[name] for shard in shards])) for name in own}
    return {name: joined[name] if name in joined else value.clone() for name, value in values.items()}


def digest(value: Tensor) -> str:
    """The same for the same bits only."""
    return hashlib.sha256(value.numpy().tobytes()).hexdigest()


class Record(L.Callback):
    """What a training went through: losses, the first step's gradients, metrics, and each parameter's state.

    Of one that was resumed, the losses and what it started from.
    """

    def __init__(self, *, resumed: bool) -> None:
        self.resumed = resumed
        self.losses: list[Tensor] = []
        self.gradients: dict[str, Tensor] = {}
        self.clipped: dict[str, Tensor] = {}
        self.start: dict[str, dict[str, Any]] = {}
        self.end: dict[str, dict[str, Any]] = {}
        self.metrics: list[dict[str, Tensor]] = []
        self._names: dict[Tensor, str] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # here, because FSDP2 leaves other tensors in the module between a forward and a backward pass
        self._names = {parameter: name for name, parameter in pl_module.named_parameters()}
        if self.resumed:
            self.start = self._state(trainer)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        if not self.resumed and not self.gradients:
            self.gradients = self._gradients(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].clone())
        if not self.resumed and not self.clipped:
            self.clipped = self._gradients(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.metrics.append({name: value.clone() for name, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.resumed:
            self.end = self._state(trainer)

    @staticmethod
    def _gradients(module: L.LightningModule) -> dict[str, Tensor]:
        return full({name: p.grad for name, p in module.named_parameters() if p.grad is not None})

    def _state(self, trainer: L.Trainer) -> dict[str, dict[str, Any]]:
        result: dict[str, dict[str, Any]] = {}
        tensors = {}
        for group in trainer.optimizers[0].param_groups:
            for parameter in group["params"]:
                name = self._names[parameter]
                result[name] = {key: group[key] for key in ("weight_decay", "peak_lr")}
                state = {"weight": parameter.detach(), **trainer.optimizers[0].state[parameter]}
                tensors |= {(name, key): value for key, value in state.items()}
        for (name, key), value in full(tensors).items():
            result[name][key] = digest(value)
        return result


def train(
    case: str,
    folder: Path,
    *,
    strategy: str | Strategy = "auto",
    rank: int = 0,
    world: int = 1,
    epochs: int = 1,
    source: str | None = None,
    save: str | None = None,
) -> dict[str, Any]:
    """Train a case, from a checkpoint or from the beginning; give what it went through, and perhaps save it."""
    make, padded = CASES[case]
    record = Record(resumed=source is not None)
    run = trainer(
        folder,
        strategy=strategy,
        devices=world,
        max_epochs=epochs,
        callbacks=[record],
        enable_checkpointing=False,
        gradient_clip_val=0.01,
    )
    module = make()
    held_out = batches(rank, world, padded=padded, sizes=HELD_OUT)
    run.fit(
        module,
        batches(rank, world, padded=padded, sizes=[CLIPS] * STEPS),
        held_out,
        ckpt_path=None if source is None else folder / source,
        weights_only=True,
    )
    if save is not None:
        run.save_checkpoint(folder / save)
    names = ["losses", "start"] if source else ["losses", "end", "gradients", "clipped", "metrics"]
    return {name: getattr(record, name) for name in names}


def fsdp(*, one_file: bool = True) -> ModelParallelStrategy:
    return ModelParallelStrategy(
        data_parallel_size=WORLD, tensor_parallel_size=1, save_distributed_checkpoint=not one_file
    )


def file_name(strategy: str, case: str) -> str:
    return f"{strategy} {case}.ckpt"


def main(folder: Path, rank: int) -> None:
    place: dict[str, Any] = {"rank": rank, "world": WORLD}
    results: dict[str, Any] = {}
    for case in CASES:
        results[f"ddp {case}"] = train(case, folder, strategy="ddp", save=file_name("ddp", case), **place)
        results[f"fsdp {case}"] = train(case, folder, strategy=fsdp(), save=file_name("fsdp", case), **place)
    for source, strategy, case in RESUMED:
        chosen = fsdp() if strategy == "fsdp" else "ddp"
        again = train(case, folder, strategy=chosen, source=file_name(source, case), epochs=2, **place)
        results[f"{source} to {strategy} {case}"] = again
    shards = {"strategy": fsdp(one_file=False), **place}
    results["shards"] = train("pretraining", folder, save="shards.ckpt", **shards)
    shards["strategy"] = fsdp(one_file=False)
    results["shards to shards"] = train("pretraining", folder, source="shards.ckpt", epochs=2, **shards)
    torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), int(os.environ["LOCAL_RANK"]))
