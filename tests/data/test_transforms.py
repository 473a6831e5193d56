"""Geometry and normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffmavil.data.fbank import SILENCE
from diffmavil.data.transforms import (
    AudioTransform,
    Crop,
    centre_crop,
    normalise_frames,
    random_crop,
    resize_frames,
    to_batch,
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


def cut(pictures: Tensor, crop: Crop) -> RawBatch:
    """A batch of one clip, as a worker sends it."""
    pictures = pictures[:, :, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    return RawBatch(
        index=torch.tensor([0]),
        frames=pictures.permute(0, 2, 3, 1).flatten(),
        frame_sizes=[(crop.height, crop.width)],
        flipped=torch.tensor([crop.flipped]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_crop_and_flip_are_alike_for_all_pictures(seed: int) -> None:
    torch.manual_seed(seed)
    (result,) = resize_frames(cut(ramps(), random_crop(48, 64, min_scale=0.3, flip=True)), 5, 16)
    assert result.shape == (5, 3, 16, 16) and result.dtype == torch.uint8
    for t in range(1, 5):
        assert torch.equal(result[t, :2], result[0, :2])
        assert bool((result[t, 2] == 50 * t).all())


def test_random_crops_vary_within_their_bounds() -> None:
    torch.manual_seed(0)
    crops = [random_crop(48, 64, min_scale=0.5, flip=True) for _ in range(300)]
    areas = [crop.height * crop.width / 48 / 64 for crop in crops]
    assert 0.48 < min(areas) < 0.55 and max(areas) > 0.9
    assert all(0.7 < crop.width / crop.height < 1.4 for crop in crops)
    assert all(0 <= crop.top <= 48 - crop.height and 0 <= crop.left <= 64 - crop.width for crop in crops)
    assert 110 < sum(crop.flipped for crop in crops) < 190
    assert not any(random_crop(48, 64, min_scale=0.5, flip=False).flipped for _ in range(20))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (20, 10), (300, 60)])
def test_centre_crop_is_the_square_in_the_centre(width: int, height: int) -> None:
    x = torch.linspace(0, 255, width).expand(3, height, width)
    y = torch.linspace(0, 255, height)[:, None].expand(3, height, width)
    raw = cut(torch.stack([x, y]).to(torch.uint8), centre_crop(height, width))
    result = resize_frames(raw, 2, 32)[0].float()
    assert result.shape == (2, 3, 32, 32)
    side = min(width, height)
    for ramp, length in ((result[0, 0].mean(dim=0), width), (result[1, 0].mean(dim=1), height)):
        assert float(ramp.mean()) == pytest.approx(127.5, abs=4)
        assert float(ramp[-1] - ramp[0]) == pytest.approx(255 * side / length * 31 / 32, abs=12)


def test_clips_of_any_size_are_scaled_as_pillow_does_and_some_mirrored() -> None:
    sizes, pictures = [(40, 70), (64, 33), (16, 16)], []
    for height, width in sizes:
        grid = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.float32)
        pictures.append(torch.nn.functional.interpolate(grid, (height, width), mode="bicubic").clamp(0, 255).byte())
    raw = RawBatch(
        index=torch.arange(3),
        frames=torch.cat([clip.permute(0, 2, 3, 1).flatten() for clip in pictures]),
        frame_sizes=sizes,
        flipped=torch.tensor([False, True, False]),
    )
    result = resize_frames(raw, 2, 16)
    for k, clip in enumerate(pictures):
        for t in range(2):
            image = Image.fromarray(clip[t].permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BILINEAR)
            expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            expected = expected.flip(-1) if k == 1 else expected
            assert int((result[k, t].int() - expected.int()).abs().max()) <= 2
    assert resize_frames(
        RawBatch(
            torch.arange(0),
            frames=torch.empty(0, dtype=torch.uint8),
            frame_sizes=[],
            flipped=torch.empty(0, dtype=torch.bool),
        ),
        2,
        16,
    ).shape == (0, 2, 3, 16, 16)


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
    batch = to_batch(RawBatch(index=index, labels=torch.tensor([1])), audio_transform(), (2, 8, 8))
    assert batch.audio is None and batch.video is None and batch.labels is not None
    raw = cut(torch.zeros(2, 3, 9, 9, dtype=torch.uint8), centre_crop(9, 9))
    raw.num_frames = torch.tensor([1])
    batch = to_batch(raw, audio_transform(), (2, 8, 8))
    assert batch.audio is None and batch.video is not None and batch.video_frames is not None
