"""A run that dies and is resumed has the weights, the curves and the checkpoints of one that did not die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from small import learner, made_data, trainer

from diffmavil.callbacks import AdaptiveBatchSize, MaskRatioCurriculum
from diffmavil.modules import PretrainModule
from diffmavil.schedules import Schedule
from diffmavil.types import Batch

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    # remarks of Lightning's on a folder that is used again, as it must be here
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=None.. was called without a model"),
    pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available"),
]


class Died(BaseException):
    pass


class Dies(L.Callback):
    """Dies at the n-th call of a hook."""

    def __init__(self, hook: str = "", n: int = 1) -> None:
        self.left = n

        def die(*_: Any, **__: Any) -> None:
            self.left -= 1
            if not self.left:
                raise Died

        if hook:
            setattr(self, hook, die)


class Curves(DummyLogger):
    """Keeps all points, in order, of several parts of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.points += [(step, name, value) for name, value in metrics.items()]


def run(made_clips: Path, folder: Path, dies: list[Dies], adaptive: bool, flags: dict[str, Any]) -> Any:
    """A run that is resumed after each death: its curves, weights and checkpoints."""
    curves = Curves()
    flags = {"max_epochs": 3, **flags}
    workers = flags.pop("num_workers", 0)
    for death in [*dies, Dies()]:
        curriculum = MaskRatioCurriculum(audio=Schedule(start=0.9, end=0.5), video=Schedule(start=0.9, end=0.5))
        fit = trainer(
            folder,
            logger=[curves],
            reload_dataloaders_every_n_epochs=int(adaptive),
            callbacks=[
                *([curriculum, AdaptiveBatchSize()] if adaptive else [curriculum]),
                death,
                ModelCheckpoint(folder / "step", every_n_train_steps=1, save_top_k=0, save_last=True, **ONE_LAST),
                ModelCheckpoint(folder / "epoch", save_top_k=-1, **ONE_LAST),
            ],
            **flags,
        )
        module = PretrainModule(model=learner(), warmup=0.0, lr=1e-3)
        data = made_data(made_clips, val_fraction=0.3, batch_size=5, num_workers=workers)
        last = folder / "step" / "last.ckpt"
        try:
            fit.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
        except Died:
            assert death.left == 0
    # what was done after the last checkpoint is done again, and leaves the same points
    return sorted(set(curves.points)), module.state_dict(), sorted(path.name for path in (folder / "epoch").iterdir())


ONE_LAST: dict[str, Any] = {"enable_version_counter": False}
DEATHS: list[tuple[dict[str, Any], bool, str, int]] = [
    ({}, True, "on_validation_start", 1),
    ({"num_workers": 1}, False, "on_validation_batch_end", 1),
    ({"check_val_every_n_epoch": 2}, True, "on_train_epoch_end", 1),
    ({"val_check_interval": 0.5, "accumulate_grad_batches": 2}, False, "on_validation_start", 1),
    ({"val_check_interval": 3, "check_val_every_n_epoch": None}, False, "on_validation_start", 1),
    ({"limit_train_batches": 3, "limit_val_batches": 0}, False, "on_train_epoch_end", 1),
    ({"max_steps": 9, "max_epochs": -1}, False, "on_train_epoch_start", 2),
]


@pytest.mark.parametrize(("flags", "adaptive", "hook", "n"), DEATHS, ids=str)
def test_a_run_that_died_ends_as_if_it_had_not(
    flags: dict[str, Any], adaptive: bool, hook: str, n: int, made_clips: Path, tmp_path: Path
) -> None:
    points, weights, files = run(made_clips, tmp_path / "whole", [], adaptive, flags)
    validations = {step for step, name, _ in points if name == "val/loss"}
    assert bool(validations) == (flags.get("limit_val_batches") != 0)
    again = run(made_clips, tmp_path / "killed", [Dies(hook, n)], adaptive, flags)
    assert again[0] == points
    assert all(torch.equal(value, again[1][name]) for name, value in weights.items())
    assert again[2] == files


@pytest.mark.parametrize("cut", [{"max_steps": 6}, {"fails": 7}], ids=str)
def test_an_epoch_that_was_cut_off_is_finished(cut: dict[str, int], made_clips: Path, tmp_path: Path) -> None:
    """By max_steps (or max_time), or by an exception whose checkpoint was written in the middle of a step."""
    states = []
    for name in ("whole", "cut"):
        steps, folder = Steps(), tmp_path / name
        for part in [cut, {}] if name == "cut" else [{}]:
            fails = Dies("on_before_optimizer_step", part["fails"]) if "fails" in part else Dies()
            fit = trainer(
                folder,
                max_epochs=3,
                max_steps=part.get("max_steps", -1),
                callbacks=[
                    steps,
                    fails,
                    OnExceptionCheckpoint(folder, "failed"),
                    ModelCheckpoint(folder, save_last=True),
                ],
            )
            module = PretrainModule(model=learner(), warmup=0.0, lr_end=1.0)
            data = made_data(made_clips, val_fraction=0.3, batch_size=5)
            found = [path for path in (folder / "failed.ckpt", folder / "last.ckpt") if path.exists()]
            try:
                fit.fit(module, data, ckpt_path=found[0] if found else None, weights_only=True)
            except Died:
                assert part
        states.append((steps.seen, module.state_dict()))
    (seen, weights), (again, resumed) = states
    assert again == seen, "every clip of the epoch, in its order"
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())


class Steps(L.Callback):
    """The epoch and the clips of each step that was taken."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[int]]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.seen.append((trainer.current_epoch, batch.index.tolist()))
