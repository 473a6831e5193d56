"""The probe for the largest batch, on a device whose memory is given by a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small import learner, made_data, trainer

from diffmavil.callbacks import AdaptiveBatchSize, LargestBatch, MaskRatioCurriculum
from diffmavil.callbacks.largest_batch import largest_that_fits
from diffmavil.data import ClipDataModule
from diffmavil.modules import PretrainModule
from diffmavil.schedules import Schedule

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def test_finds_every_largest_number_in_few_tries() -> None:
    for most in (0, 1, 2, 7, 8, 100):
        for largest in range(0, 120):
            tries: list[int] = []

            def fits(count: int, largest: int = largest, tries: list[int] = tries) -> bool:
                tries.append(count)
                return count <= largest

            assert largest_that_fits(fits, most) == min(largest, most)
            assert len(tries) <= 14 and len(set(tries)) == len(tries)


class _Probe(LargestBatch):
    """Probes on the CPU too, where running out of memory is the module's matter."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: ClipDataModule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, PretrainModule)
        before = {name: value.clone() for name, value in pl_module.state_dict().items()}
        state = torch.get_rng_state()
        self.found = self.probe(trainer, pl_module, data)
        assert all(torch.equal(value, before[name]) for name, value in pl_module.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state) and pl_module.training
        assert all(weight.grad is None for weight in pl_module.parameters())
        super().on_fit_start(trainer, pl_module)


def _limited(tokens: int) -> PretrainModule:
    """A module whose device holds the audio encoder's tokens of one batch up to this number."""
    module = PretrainModule(model=learner(), intra_weight=0.0)

    def enter(_: Any, args: tuple[Any, ...]) -> None:
        if args[1].numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    module.model.audio_encoder.register_forward_pre_hook(enter)
    return module


class _Sizes(L.Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.seen.append((len(batch.index), pl_module.lr_scale))


def test_the_batch_is_the_largest_that_fits_in_first_and_last_epoch(made_clips: Path, tmp_path: Path) -> None:
    # a clip has 6 patches of sound and 8 of picture: 1 + 2 are visible in the first epoch, 3 + 4 in the last
    curriculum = MaskRatioCurriculum(audio=Schedule(start=0.75, end=0.5), video=Schedule(start=0.75, end=0.5))
    probe, sizes = _Probe(margin=0.0, multiple=2), _Sizes()
    run = trainer(
        tmp_path,
        max_epochs=2,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[probe, curriculum, AdaptiveBatchSize(lr_rule="linear"), sizes],
        enable_checkpointing=False,
    )
    run.fit(_limited(39), made_data(made_clips, batch_size=4))
    assert probe.found == 12, "13 clips of 3 tokens, and it must be even"
    assert sizes.seen == [(24, 24 / 4), (12, 12 / 4)], "twice as many while half as much is seen"

    constant = _Probe(margin=0.25, multiple=4)
    run = trainer(tmp_path, max_epochs=1, callbacks=[constant], enable_checkpointing=False)
    run.fit(_limited(25), data := made_data(made_clips, batch_size=4))  # 1 token at the ratio of 0.8
    assert constant.found == data.batch_size == 16, "three quarters of 24, in fours"


def test_a_batch_has_no_more_clips_than_there_are_and_no_fewer_than_fit(made_clips: Path, tmp_path: Path) -> None:
    probe = _Probe(margin=0.0, multiple=1)
    trainer(tmp_path, max_epochs=1, callbacks=[probe], enable_checkpointing=False).fit(
        _limited(10**6), made_data(made_clips)
    )
    assert probe.found == 30
    run = trainer(tmp_path, max_epochs=1, callbacks=[_Probe()], enable_checkpointing=False)
    with pytest.raises(ValueError, match="LargestBatch needs room for a batch of 8 clips, found none"):
        run.fit(_limited(7), made_data(made_clips))


def test_what_was_found_is_kept_and_a_cpu_keeps_what_is_configured(
    made_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resumed = LargestBatch()
    resumed.load_state_dict(_found(6).state_dict())
    caplog.set_level("INFO")
    for callback, size in ((resumed, 6), (LargestBatch(), 5)):
        run = trainer(tmp_path, max_epochs=1, callbacks=[callback], enable_checkpointing=False)
        run.fit(PretrainModule(model=learner()), data := made_data(made_clips))
        assert data.batch_size == size
    assert "LargestBatch probes a GPU; on this device data.batch_size stays 5" in caplog.text


def _found(size: int) -> LargestBatch:
    callback = LargestBatch()
    callback.found = size
    return callback
