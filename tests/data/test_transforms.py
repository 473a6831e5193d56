"""Geometry and normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffmavil.data.fbank import SILENCE
from diffmavil.data.transforms import (
    AudioTransform,
    eval_geometry,
    normalise_frames,
    to_batch,
    train_geometry,
    unnormalise_frames,
)
from diffmavil.types import RawBatch


def audio_transform(clip_s: float = 1.0, mean: float = -4.0, std: float = 4.5) -> AudioTransform:
    return AudioTransform(clip_s=clip_s, sample_rate_hz=16000, num_mel_bins=32, frame_shift_ms=10.0, mean=mean, std=std)


def ramps(width: int = 64, height: int = 48) -> Tensor:
    """Five pictures whose red tells x, green y and blue the time."""
    x = torch.arange(width).expand(height, width) * 4
    y = torch.arange(height)[:, None].expand(height, width) * 4
    return torch.stack([torch.stack([x, y, torch.full_like(x, 50 * t)]) for t in range(5)]).to(torch.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_crop_and_flip_are_alike_for_all_pictures(seed: int) -> None:
    torch.manual_seed(seed)
    result = train_geometry(16, 0.3, True)(ramps())
    assert result.shape == (5, 3, 16, 16) and result.dtype == torch.uint8
    for t in range(1, 5):
        assert torch.equal(result[t, :2], result[0, :2])
        assert bool((result[t, 2] == 50 * t).all())


def test_training_geometry_varies_and_keeps_the_smallest_scale() -> None:
    torch.manual_seed(0)
    areas, flipped = [], []
    for _ in range(60):
        red, green = train_geometry(16, 0.5, True)(ramps())[0, :2].float()
        areas.append(float((red.max() - red.min()) / 4 + 4) * float((green.max() - green.min()) / 4 + 3) / 64 / 48)
        flipped.append(bool(red[0, 0] > red[0, -1]))
    assert 0.4 < min(areas) < 0.65 and max(areas) > 0.8
    assert 15 < sum(flipped) < 45
    assert not any(
        bool(red[0, 0] > red[0, -1]) for red in (train_geometry(16, 0.5, False)(ramps())[0, 0] for _ in range(20))
    )


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (20, 10), (300, 60)])
def test_eval_geometry_is_the_square_in_the_centre(width: int, height: int) -> None:
    x = torch.linspace(0, 255, width).expand(3, height, width)
    y = torch.linspace(0, 255, height)[:, None].expand(3, height, width)
    result = eval_geometry(32)(torch.stack([x, y]).to(torch.uint8)).float()
    assert result.shape == (2, 3, 32, 32)
    side = min(width, height)
    for ramp, length in ((result[0, 0].mean(dim=0), width), (result[1, 0].mean(dim=1), height)):
        assert float(ramp.mean()) == pytest.approx(127.5, abs=4)
        assert float(ramp[-1] - ramp[0]) == pytest.approx(255 * side / length * 31 / 32, abs=12)


def test_pictures_are_normalised_with_imagenet_statistics() -> None:
    frames = torch.randint(0, 256, (2, 4, 3, 5, 6), dtype=torch.uint8)
    result = normalise_frames(frames)
    assert result.shape == (2, 3, 4, 5, 6) and result.dtype == torch.float32
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        expected = (frames[1, 2, channel].double() / 255 - mean) / std
        torch.testing.assert_close(result[1, channel, 2].double(), expected, atol=1e-5, rtol=0)
    back = unnormalise_frames(result[0].transpose(0, 1))
    torch.testing.assert_close(back, frames[0].float() / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("clip_s", "frames"), [(10.24, 1024), (1.0, 100), (2.96, 296), (0.64, 64), (0.04, 4)])
def test_number_of_frames_of_a_window(clip_s: float, frames: int) -> None:
    transform = audio_transform(clip_s)
    assert transform.num_frames == frames
    waveform = torch.zeros(2, transform.num_samples, dtype=torch.int16)
    audio, counts = transform(waveform, None)
    assert audio.shape == (2, 1, frames, 32) and counts is None


def test_sound_is_normalised_and_padding_is_silence() -> None:
    transform = audio_transform(mean=-3.0, std=2.0)
    waveform = torch.zeros(2, transform.num_samples, dtype=torch.int16)
    waveform[:, :8000] = (3000 * torch.randn(2, 8000)).to(torch.int16)
    audio, counts = transform(waveform, torch.tensor([8000, transform.num_samples]))
    assert counts is not None and counts.tolist() == [48, 100]
    values, _ = transform.features(waveform, torch.tensor([8000, transform.num_samples]))
    torch.testing.assert_close(audio[:, 0], (values + 3.0) / 2.0)
    torch.testing.assert_close(audio[0, 0, 48:], torch.full((52, 32), (SILENCE + 3.0) / 2.0))


def test_batch_of_one_modality_or_none() -> None:
    index = torch.tensor([3])
    batch = to_batch(RawBatch(index=index, labels=torch.tensor([1])), audio_transform())
    assert batch.audio is None and batch.video is None and batch.labels is not None
    frames = torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8)
    batch = to_batch(RawBatch(index=index, frames=frames, num_frames=torch.tensor([1])), audio_transform())
    assert batch.audio is None and batch.video is not None and batch.video_frames is not None
