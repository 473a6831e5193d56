"""A GPU whose memory runs out, really: it is told to give no more than so much."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from gpu_device import DEVICE, NEEDS_GPU
from small import made_data, trainer

from diffmavil.callbacks import LargestBatch
from diffmavil.data import ClipDataModule
from diffmavil.models import diffmavil
from diffmavil.modules import PretrainModule

pytestmark = NEEDS_GPU

CLIPS = 16


@contextmanager
def memory_of(size: int) -> Iterator[None]:
    """A GPU that has so many bytes."""
    _free()
    whole = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(size / whole, DEVICE)
    try:
        yield
    finally:
        _free()
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


class _Losses(L.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(float(outputs["loss"]))


def _module(**kwargs: Any) -> PretrainModule:
    torch.manual_seed(0)
    return PretrainModule(model=diffmavil(size="tiny"), audio_mask_ratio=0.5, video_mask_ratio=0.5, **kwargs)


def _data(made_clips: Path, clips: int) -> ClipDataModule:
    window = {"clip_s": 1.28, "num_mel_bins": 128, "num_frames": 8, "fps": 8.0, "image_size": 224}
    return made_data(made_clips, batch_size=clips, **window)


def _fit(
    module: PretrainModule, data: ClipDataModule, folder: Path, *callbacks: L.Callback
) -> tuple[list[float], list[str], int]:
    """Losses of two steps, what was said of memory, and the most that was taken."""
    losses = _Losses()
    run = trainer(
        folder,
        accelerator=DEVICE.type,
        max_epochs=2,
        limit_train_batches=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        callbacks=[losses, *callbacks],
    )
    _free()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(module, data)
    said = [str(warning.message) for warning in caught if "out of memory" in str(warning.message)]
    return losses.seen, said, torch.cuda.max_memory_allocated(DEVICE)


def test_a_batch_that_does_not_fit_goes_through_in_halves(made_clips: Path, tmp_path: Path) -> None:
    data = _data(made_clips, CLIPS)
    _, said, whole = _fit(_module(), data, tmp_path)
    assert not said
    from_the_start, said, halved = _fit(_module(halved=True), data, tmp_path)
    assert not said and halved < 0.8 * whole, "halves take less"
    with memory_of((whole + halved) // 2):
        module = _module()
        losses, said, _ = _fit(module, data, tmp_path)
        assert module.halved
        del module
    (line,) = said
    assert line.startswith(f"out of memory with {CLIPS} clips a batch on rank 0: from here on")
    assert losses == pytest.approx(from_the_start, rel=1e-3), "the step that ran out was computed anew"


def test_the_largest_batch_is_what_the_memory_holds(made_clips: Path, tmp_path: Path) -> None:
    peaks = [_fit(_module(), _data(made_clips, clips), tmp_path)[2] for clips in (4, 12)]
    one = (peaks[1] - peaks[0]) / 8
    size = peaks[1] + round(2 * one)
    with memory_of(size):
        probe, module, data = LargestBatch(margin=0.2, multiple=2), _module(), _data(made_clips, 4)
        losses, said, _ = _fit(module, data, tmp_path, probe)
        halved = module.halved
        del module
    assert probe.found is not None and data.batch_size == probe.found
    assert 6 <= probe.found <= 14, "four fifths of about 14, of 30 clips"
    assert len(losses) == 2 and not said and not halved, "and it trains at that size"
