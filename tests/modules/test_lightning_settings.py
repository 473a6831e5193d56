"""Each callback and flag of Lightning that touches rate, batch, order or steps is honoured, or refused in a line."""

from __future__ import annotations

import inspect
import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from command_config import Run
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.tuner import Tuner
from ranks import ROOT
from small import learner, made_data, trainer

from diffmavil.callbacks import AdaptiveBatchSize, MaskRatioCurriculum
from diffmavil.commands.plan import plan, planning_parser
from diffmavil.modules import PretrainModule
from diffmavil.schedules import Schedule, warmup_cosine
from diffmavil.types import Batch

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


class MyFinder(LearningRateFinder):
    pass


class Steps(L.Callback):
    """What each step was given."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.batches: list[Batch] = []
        self.epochs: list[int] = []
        self.ratios: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.batches.append(batch)
        self.epochs.append(trainer.current_epoch)
        self.ratios.append(pl_module.audio_mask_ratio)


def steps_of(made_clips: Path, folder: Path, *more: L.Callback, data: dict[str, Any], **flags: Any) -> Steps:
    steps = Steps()
    fit = trainer(folder, callbacks=[*more, steps], enable_checkpointing=False, **flags)
    fit.fit(PretrainModule(model=learner(), warmup=0.4, lr=1.0e-4), made_data(made_clips, **data))
    return steps


@pytest.mark.parametrize(
    ("refused", "instead"),
    [
        (LearningRateFinder(), "LearningRateFinder .* use model.lr"),
        (MyFinder(), "MyFinder .* use model.lr"),
        (BatchSizeFinder(), "BatchSizeFinder .* LargestBatch"),
        (StochasticWeightAveraging(swa_lrs=0.1), "use lightning.pytorch.callbacks.EMAWeightAveraging"),
        (BackboneFinetuning(), "use model.layer_decay"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_be_overridden_is_refused(refused: L.Callback, instead: str, tmp_path: Path) -> None:
    fit = trainer(tmp_path, callbacks=[refused])
    with pytest.raises(ValueError, match=instead):  # before the clips are even listed
        fit.fit(PretrainModule(model=learner()), made_data(tmp_path / "nowhere"))


def test_so_it_is_by_the_tuner_and_by_the_command(run: Run, tmp_path: Path) -> None:
    tuner, data = Tuner(trainer(tmp_path)), made_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="use data.batch_size"):
        tuner.scale_batch_size(PretrainModule(model=learner()), datamodule=data)
    with pytest.raises(ValueError, match=r"use model\.lr"):
        Tuner(trainer(tmp_path)).lr_find(PretrainModule(model=learner()), datamodule=data)
    code, _, err = run("fit", "--config", "mine.yaml", "--trainer.callbacks+=LearningRateFinder")
    assert (code, err.count("diffmavil: error: LearningRateFinder cannot be used here; use model.lr")) == (2, 1)
    assert "Traceback" not in err


def test_a_clock_is_no_end_for_a_schedule(made_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    endless = trainer(tmp_path, max_epochs=-1, max_time="00:00:10:00")
    with pytest.raises(ValueError, match=r"trainer.max_epochs or trainer.max_steps must be set"):
        endless.fit(PretrainModule(model=learner()), made_data(made_clips))
    with caplog.at_level(logging.INFO):
        steps_of(made_clips, tmp_path, Timer(timedelta(hours=1)), data={}, max_epochs=1, limit_train_batches=1)
    assert "max_time stops a run wherever it is: the learning rate follows max_epochs and max_steps" in caplog.text


RATES: list[tuple[dict[str, Any], list[L.Callback], int]] = [
    ({"max_epochs": 20, "max_steps": 8}, [], 8),
    ({"max_epochs": -1, "max_steps": 8}, [], 8),
    ({"max_epochs": 1, "max_steps": 500}, [], 6),
    ({"max_epochs": 3, "limit_train_batches": 2, "min_epochs": 1}, [], 6),
    ({"max_epochs": 2, "limit_train_batches": 0.5, "min_steps": 1}, [], 6),
    ({"max_epochs": 2, "limit_train_batches": 4, "accumulate_grad_batches": 2}, [], 8),
    ({"max_epochs": 2, "limit_train_batches": 4}, [GradientAccumulationScheduler({1: 2})], 8),
    ({"fast_dev_run": 3}, [], 3),
    ({"max_epochs": 1}, [EMAWeightAveraging()], 6),
]


@pytest.mark.filterwarnings(
    "ignore:When using `Trainer.accumulate_grad_batches"
)  # of Lightning's, to whom it may concern
@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model that overrides")
@pytest.mark.parametrize(
    ("flags", "more", "batches"), RATES, ids=lambda value: None if isinstance(value, list) else str(value)
)
def test_the_learning_rate_goes_all_the_way_whatever_ends_the_run(
    flags: dict[str, Any], more: list[L.Callback], batches: int, made_clips: Path, tmp_path: Path
) -> None:
    steps = steps_of(made_clips, tmp_path, *more, data={}, **flags)
    expected = [1.0e-4 * warmup_cosine(k / batches, warmup=0.4, end=0.0) for k in range(batches)]
    assert steps.rates == pytest.approx(expected)


@pytest.mark.parametrize(("per", "adaptive"), [("epoch", True), ("epoch", False), ("step", True)])
def test_ratio_and_batch_end_with_the_steps(per: Any, adaptive: bool, made_clips: Path, tmp_path: Path) -> None:
    curriculum = MaskRatioCurriculum(audio=Schedule(start=0.9, end=0.5), video=Schedule(start=0.9, end=0.5), per=per)
    more = [curriculum, AdaptiveBatchSize()] if adaptive else [curriculum]
    flags = {"max_epochs": 30, "max_steps": 7, "reload_dataloaders_every_n_epochs": 1}
    steps = steps_of(made_clips, tmp_path, *more, data={"batch_size": 7}, **flags)
    assert len(steps.rates) == 7 and steps.ratios[0] == pytest.approx(0.9)
    epochs = steps.epochs[-1] + 1
    assert 1 < epochs < 30
    firsts = [steps.epochs.index(epoch) for epoch in range(epochs)]
    last = epochs - 1 if per == "epoch" else epochs
    expected = [0.9 - 0.4 * epoch / last for epoch in range(epochs)]
    assert [steps.ratios[first] for first in firsts] == pytest.approx(expected)
    if per == "epoch":
        assert steps.ratios[-1] == pytest.approx(0.5)
    if adaptive:  # as many visible tokens in each epoch's batch
        sizes = [len(steps.batches[first].index) for first in firsts]
        visible = 7 * (1 - expected[-1])
        assert sizes == [min(int(visible / (1 - ratio) + 1e-6), 30) for ratio in expected]


def test_a_plan_by_epochs_refuses_an_end_by_steps(run: Run) -> None:
    parser = planning_parser("plan")
    config = parser.parse_args(["--config", str(ROOT / "configs" / "pretrain.yaml"), "--trainer.max_steps", "4"])
    with pytest.raises(ValueError, match="trainer.max_steps must be left out to plan a run by epochs, got 4"):
        plan(parser, config)


@pytest.mark.parametrize(("overfit", "adaptive"), [(2, False), (0.4, False), (1, True)])
def test_overfitting_reads_the_same_batches_in_every_epoch(
    overfit: int | float, adaptive: bool, made_clips: Path, tmp_path: Path
) -> None:
    curriculum = MaskRatioCurriculum(audio=Schedule(start=0.9, end=0.5), video=Schedule(start=0.9, end=0.5))
    more = [curriculum, AdaptiveBatchSize()] if adaptive else []
    flags = {"max_epochs": 3, "overfit_batches": overfit, "reload_dataloaders_every_n_epochs": int(adaptive)}
    steps = steps_of(made_clips, tmp_path, *more, data={"batch_size": 5}, **flags)

    def clips(epoch: int) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        batches = [batch for at, batch in zip(steps.epochs, steps.batches, strict=True) if at == epoch]
        return {
            index: (batch.audio[k], batch.video[k])
            for batch in batches
            if batch.audio is not None and batch.video is not None
            for k, index in enumerate(batch.index.tolist())
        }

    first = clips(0)
    for epoch in (1, 2):
        seen = clips(epoch)
        # where the batch shrinks, fewer of the same
        assert list(seen) == list(first)[: len(seen)] and (adaptive or len(seen) == len(first))
        assert all(torch.equal(x, first[index][k]) for index, pair in seen.items() for k, x in enumerate(pair))


def test_the_docs_name_every_callback_and_every_argument() -> None:
    """So that an upgrade of Lightning shows what is new."""
    text = (ROOT / "docs" / "lightning.md").read_text()
    _, of_callbacks, of_trainer = re.split(r"^## (?:Callbacks|Arguments of the trainer)$", text, flags=re.MULTILINE)
    names = [re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE) for part in (of_callbacks, of_trainer)]
    assert sorted(names[0]) == sorted(callbacks.__all__)
    assert sorted(names[1]) == sorted(set(inspect.signature(L.Trainer.__init__).parameters) - {"self"})
