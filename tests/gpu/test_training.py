"""Trainings on a GPU: one that is resumed, and one whose weights are spread over the processes: over one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from gpu_device import DEVICE, NEEDS_GPU
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from small import learner, made_data, trainer
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffmavil.callbacks import AdaptiveBatchSize, MaskRatioCurriculum
from diffmavil.modules import PretrainModule
from diffmavil.schedules import Schedule

pytestmark = NEEDS_GPU


@pytest.fixture(autouse=True)
def _repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels that add up in a fixed order: attention's fast ones do not."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.use_deterministic_algorithms(False)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _Losses(L.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert batch.video.device.type == DEVICE.type
        self.seen.append(float(outputs["loss"]))


def _fit(made_clips: Path, folder: Path, ckpt_path: Path | None = None, **kwargs: Any) -> list[float]:
    """Losses of two epochs, after each of which a checkpoint is written."""
    losses = _Losses()
    run = trainer(
        folder,
        accelerator=DEVICE.type,
        reload_dataloaders_every_n_epochs=1,
        deterministic="warn",
        callbacks=[
            ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1),
            MaskRatioCurriculum(audio=Schedule(start=0.9, end=0.6), video=Schedule(start=0.9, end=0.6)),
            AdaptiveBatchSize(),
            losses,
        ],
        **kwargs,
    )
    run.fit(PretrainModule(model=learner(), lr=1e-3), made_data(made_clips), ckpt_path=ckpt_path, weights_only=True)
    return losses.seen


def _state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights, and what the optimiser keeps of each."""
    content = torch.load(checkpoint, weights_only=True, map_location="cpu")
    state: dict[str, torch.Tensor] = dict(content["state_dict"])
    for number, kept in content["optimizer_states"][0]["state"].items():
        state |= {f"{number} {name}": value for name, value in kept.items()}
    return state


def _assert_equal(got: Path, wanted: Path) -> None:
    first, second = _state(got), _state(wanted)
    assert first.keys() == second.keys() and len(first) > 100
    different = [name for name, value in second.items() if not torch.equal(first[name], value)]
    assert not different


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(precision: str, made_clips: Path, tmp_path: Path) -> None:
    whole = _fit(made_clips, tmp_path / "whole", precision=precision)
    again = _fit(made_clips, tmp_path / "again", precision=precision)
    assert whole == again, "the same run gives the same on this device"
    resumed = _fit(made_clips, tmp_path / "rest", tmp_path / "whole" / "epoch=0.ckpt", precision=precision)
    assert 2 <= len(resumed) < len(whole) and resumed == whole[-len(resumed) :]
    _assert_equal(tmp_path / "rest" / "epoch=1.ckpt", tmp_path / "whole" / "epoch=1.ckpt")


def test_weights_spread_over_one_device_train_as_whole_ones(made_clips: Path, tmp_path: Path) -> None:
    plain = _fit(made_clips, tmp_path / "plain")
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1, save_distributed_checkpoint=False)
    spread = _fit(made_clips, tmp_path / "spread", strategy=strategy)
    assert len(spread) == len(plain) > 4
    assert spread == pytest.approx(plain, rel=1e-3)
    weights, spread_weights = (_state(tmp_path / name / "epoch=1.ckpt") for name in ("plain", "spread"))
    assert weights.keys() == spread_weights.keys(), "one file, which any strategy reads"
    resumed = _fit(made_clips, tmp_path / "rest", tmp_path / "spread" / "epoch=0.ckpt")
    assert resumed == pytest.approx(plain[-len(resumed) :], rel=1e-3)
