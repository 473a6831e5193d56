"""Batches on their way to a GPU: in memory that is pinned, used again, and copied from while the CPU goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu_device import DEVICE, NEEDS_GPU
from small import made_data
from torch import Tensor

from diffmavil.types import RawBatch

pytestmark = NEEDS_GPU

TIMES = 20


def _values(audio: Tensor | None, video: Tensor | None) -> tuple[Tensor, Tensor]:
    assert audio is not None and video is not None
    return audio, video


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_arrives_is_what_was_sent(num_workers: int, made_clips: Path) -> None:
    reader = made_data(made_clips)
    reader.setup("fit")
    clips = range(len(reader.clips))
    wanted: dict[int, tuple[Tensor, Tensor]] = {}
    for raw in reader.eval_dataloader(clips):
        assert isinstance(raw, RawBatch)
        batch = reader.prepare(raw, "cpu")
        audio, video = _values(batch.audio, batch.video)
        wanted |= {int(k): (audio[row], video[row]) for row, k in enumerate(batch.index)}
    assert len(wanted) == len(clips) == 40

    data = made_data(made_clips, num_workers=num_workers)
    data.setup("fit")
    load = torch.randn(2048, 2048, device=DEVICE)
    arrived = []
    for raw in data.eval_dataloader([*clips] * TIMES):
        assert isinstance(raw, RawBatch)
        assert raw.waveform is not None and raw.waveform.is_pinned() == (DEVICE.type == "cuda")
        for _ in range(20):  # the copies wait behind this while the next batches are put together
            load = torch.mm(load, load).tanh()
        arrived.append(data.prepare(raw, DEVICE))
        del raw
    assert len(arrived) == 40 * TIMES // 5
    for batch in arrived:
        audio, video = _values(batch.audio, batch.video)
        for row, k in enumerate(batch.index.tolist()):
            torch.testing.assert_close(audio[row].cpu(), wanted[k][0], rtol=1e-3, atol=1e-3)
            # a grey level is 0.02; the two devices may round one differently
            torch.testing.assert_close(video[row].cpu(), wanted[k][1], rtol=0, atol=0.03)
