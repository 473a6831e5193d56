"""Callbacks that watch a metric which is never logged: a line, not a run without checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from small import learner, made_data, trainer

from diffmavil.modules import PretrainModule


class Steps(Callback):
    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.count += 1


def steps_before_the_end(made_clips: Path, folder: Path, callback: Callback, **data: Any) -> tuple[int, str]:
    """How many steps a training of one step an epoch makes, and what it is ended by."""
    steps = Steps()
    fit = trainer(folder, callbacks=[callback, steps], limit_train_batches=1, limit_val_batches=1)
    try:
        fit.fit(PretrainModule(model=learner()), made_data(made_clips, **data))
    except ValueError as error:
        return steps.count, str(error)
    return steps.count, ""


def test_a_metric_of_the_validation_where_nothing_is_validated(made_clips: Path, tmp_path: Path) -> None:
    for callback in (ModelCheckpoint(monitor="val/loss"), EarlyStopping(monitor="val/loss")):
        steps, said = steps_before_the_end(made_clips, tmp_path, callback)
        rule = f"{type(callback).__name__}.monitor must be a metric that is logged, got val/loss, and nothing is valid"
        assert steps == 0 and said.startswith(rule) and "set data.val_fraction" in said
    stop = EarlyStopping(monitor="val/loss", strict=False)
    assert steps_before_the_end(made_clips, tmp_path, stop) == (2, ""), "told to do without it"


def test_a_metric_that_there_is_none_of(made_clips: Path, tmp_path: Path) -> None:
    for callback in (
        ModelCheckpoint(monitor="train_loss"),
        EarlyStopping(monitor="train_loss", check_on_train_epoch_end=True),
    ):
        steps, said = steps_before_the_end(made_clips, tmp_path, callback)
        assert steps == 1 and said.startswith(f"{type(callback).__name__}.monitor must be a metric that is logged, one")
        assert said.endswith(", got train_loss; did you mean train/loss?") and "train/loss_contrastive_inter" in said


@pytest.mark.parametrize("monitor", ["train/loss", "val/loss", "step", "schedule/lr"])
def test_metrics_that_are_logged_are_watched(monitor: str, made_clips: Path, tmp_path: Path) -> None:
    keep = ModelCheckpoint(monitor=monitor, dirpath=tmp_path / "kept")
    assert steps_before_the_end(made_clips, tmp_path, keep, val_fraction=0.3) == (2, "")
    assert len(list((tmp_path / "kept").iterdir())) == 1
