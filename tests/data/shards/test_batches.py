"""Whole batches of a data module from shards, against those of the same clips from their files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from media import moving_frames, tone, write_media
from shards import write_shards
from torch import Tensor

from diffmavil.data import ClipDataModule, ClipSource, ManifestSource, ShardSource
from diffmavil.data.shards import Stored
from diffmavil.types import RawBatch

FPS, SECONDS = 10, 2.4
SEGMENTS = [("", ""), (0.3, 1.9), (1.0, 2.3), (0.5, 0.85)]
"""Each begins with a picture, so that those of the file are stored; the last is shorter than a window."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> ManifestSource:
    """Segments of four films, two with 16 kHz mono and two with 44.1 kHz stereo sound, in two classes."""
    root = tmp_path_factory.mktemp("films")
    table = ["path,start_s,end_s,what"]
    for k in range(4):
        rate = 44100 if k % 2 else 16000
        sound = tone(SECONDS, 300 + 100 * k, rate) * np.linspace(0.1, 1, round(SECONDS * rate), dtype=np.float32)
        stereo = np.concatenate([sound, tone(SECONDS, 500, rate, 0.2)])
        write_media(
            root / f"{k}.mkv",
            frames=moving_frames(round(SECONDS * FPS), k, 160, 120),
            fps=FPS,
            sound=stereo if k % 2 else sound,
            rate=rate,
            audio_codec="flac",
        )
        table += [f"{k}.mkv,{start},{end},{'cat' if k < 3 else 'dog'}" for start, end in SEGMENTS]
    (root / "m.csv").write_text("\n".join(table))
    return ManifestSource(path=root / "m.csv", label_column="what")


def module(source: ClipSource, *, fps: float, seed: int = 7) -> ClipDataModule:
    data = ClipDataModule(
        source=source,
        batch_size=4,
        num_workers=0,
        clip_s=1.0,
        num_mel_bins=32,
        num_frames=4,
        fps=fps,
        image_size=64,
        crop_min_scale=0.3,
        eval_windows=2,
        seed=seed,
    )
    data.setup("fit")
    return data


def batches(data: ClipDataModule, training: bool) -> Iterator[RawBatch]:
    loader = data.train_dataloader() if training else data.eval_dataloader(range(len(data.clips)))
    for batch in loader:
        assert isinstance(batch, RawBatch) and not batch.skips
        yield batch


def psnr(a: Tensor, b: Tensor, peak: float = 255.0) -> float:
    return float(10 * torch.log10(peak**2 / (a.double() - b.double()).square().mean()))


def lists(batch: RawBatch) -> list[Any]:
    """All that a batch says of its samples but for what is heard and seen."""
    tensors = (batch.index, batch.labels, batch.flipped, batch.num_samples, batch.num_frames)
    return [*(tensor.tolist() for tensor in tensors if tensor is not None), batch.frame_sizes]


@pytest.fixture(scope="module", params=[100, 95], ids=["quality 100", "quality 95"])
def shards(
    request: pytest.FixtureRequest, manifest: ManifestSource, tmp_path_factory: pytest.TempPathFactory
) -> ShardSource:
    stored = Stored(fps=float(FPS), quality=request.param)
    return ShardSource(root=write_shards(manifest, tmp_path_factory.mktemp("shards"), stored=stored, clips_per_shard=5))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_batch_from_shards_is_that_from_the_files_up_to_jpeg(
    training: bool, manifest: ManifestSource, shards: ShardSource
) -> None:
    files, ours = module(manifest, fps=4.0), module(shards, fps=4.0)
    found, varied = set(), set()
    for wanted, got in zip(batches(files, training), batches(ours, training), strict=True):
        assert lists(got) == lists(wanted) and len(lists(got)) == 6
        assert wanted.waveform is not None and got.waveform is not None
        assert wanted.frames is not None and got.frames is not None
        assert torch.equal(got.waveform, wanted.waveform)
        assert psnr(got.frames, wanted.frames) > 38, "the next picture instead gives less than 30"
        a, b = files.prepare(wanted, "cpu"), ours.prepare(got, "cpu")
        for name in ("index", "labels", "audio", "audio_frames", "video_frames"):
            values = getattr(a, name), getattr(b, name)
            assert values == (None, None) or torch.equal(*values), name
        assert a.video is not None and b.video is not None
        assert psnr(a.video, b.video, peak=255 / 58) > 38, "58 levels are one standard deviation"
        found |= set(wanted.index.tolist())
        assert wanted.frame_sizes is not None and wanted.flipped is not None
        varied |= {*wanted.frame_sizes, *wanted.flipped.tolist()}
    assert found == set(range(16))
    assert len(varied) > 8 if training else varied == {(120, 120), False}, "crops differ, and some are mirrored"
