"""The filter bank against torchaudio's restatement of Kaldi."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from diffmavil.data.fbank import SILENCE, count_frames, fbank

LARGEST = 2e-3
"""Of the logarithm, in bins far below a frame's loudest, where processors that add in another order differ by 1e-3."""


def oracle(waveform: Tensor, rate: int = 16000, bins: int = 128, shift_ms: float = 10.0) -> Tensor:
    waveform = waveform - waveform.mean()
    return kaldi.fbank(
        waveform[None],
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=bins,
        dither=0.0,
        frame_shift=shift_ms,
    )


def sound(samples: int, seed: int = 0, rate: int = 16000) -> Tensor:
    """Noise, a tone, an offset and a silent stretch."""
    generator = torch.Generator().manual_seed(seed)
    time_s = torch.arange(samples) / rate
    waveform = 0.1 * torch.randn(samples, generator=generator) + 0.3 * torch.sin(2 * math.pi * 440 * time_s) + 0.05
    waveform[samples // 2 : samples // 2 + 1000] = 0.05
    return waveform.clamp(-1, 1)


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 640, 16000, 160000, 163840])
def test_equals_kaldi(samples: int) -> None:
    waveform = sound(samples)
    expected = oracle(waveform)
    result = fbank(waveform[None], torch.tensor([samples]), 16000, 128, 10.0)
    assert result.shape == (1, *expected.shape)
    assert int(count_frames(torch.tensor([samples]), 16000, 10.0)) == len(expected)
    torch.testing.assert_close(result[0], expected, atol=LARGEST, rtol=0)
    assert float((result[0] - expected).abs().mean()) < 2e-5


@pytest.mark.parametrize(
    ("rate", "bins", "shift_ms"), [(16000, 64, 5.0), (22050, 80, 12.5), (8000, 40, 10.0), (44100, 128, 10.0)]
)
def test_equals_kaldi_with_other_settings(rate: int, bins: int, shift_ms: float) -> None:
    waveform = sound(2 * rate, rate=rate)
    result = fbank(waveform[None], torch.tensor([len(waveform)]), rate, bins, shift_ms)
    expected = oracle(waveform, rate, bins, shift_ms)
    torch.testing.assert_close(result[0], expected, atol=LARGEST, rtol=0)
    assert float((result[0] - expected).abs().mean()) < 2e-5


def test_padded_batch_equals_each_clip_alone() -> None:
    lengths = [16000, 640, 400, 9999, 15999]
    batch = torch.full((len(lengths), 16000), 0.7)  # whatever comes after a clip's end is not read
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = sound(length, seed=length)
    result = fbank(batch, torch.tensor(lengths), 16000, 128, 10.0)
    frames = count_frames(torch.tensor(lengths), 16000, 10.0).tolist()
    assert frames == [98, 2, 1, 60, 98]
    for k, (length, count) in enumerate(zip(lengths, frames, strict=True)):
        torch.testing.assert_close(result[k, :count], oracle(batch[k, :length]), atol=LARGEST, rtol=0)
        assert bool((result[k, count:] == torch.tensor(SILENCE)).all())


def test_ten_seconds_give_998_frames() -> None:
    assert count_frames(torch.tensor([160000]), 16000, 10.0).tolist() == [998]


@pytest.mark.parametrize("samples", [1, 100, 399])
def test_clip_shorter_than_a_frame_gives_one(samples: int) -> None:
    waveform = torch.zeros(1, 1000)
    waveform[0, :samples] = sound(samples)
    result = fbank(waveform, torch.tensor([samples]), 16000, 128, 10.0)
    padded = torch.nn.functional.pad(waveform[:, :samples] - waveform[:, :samples].mean(), (0, 400 - samples))
    expected = kaldi.fbank(
        padded, htk_compat=True, use_energy=False, window_type="hanning", num_mel_bins=128, dither=0.0
    )
    torch.testing.assert_close(result[0, :1], expected, atol=LARGEST, rtol=0)
    assert bool((result[0, 1:] == torch.tensor(SILENCE)).all())
    assert fbank(waveform[:, :samples], torch.tensor([samples]), 16000, 128, 10.0).shape == (1, 1, 128)


def test_no_clip_has_no_frames() -> None:
    assert fbank(torch.empty(0, 16000), torch.empty(0, dtype=torch.long), 16000, 32, 10.0).shape == (0, 98, 32)


def test_digital_silence() -> None:
    result = fbank(torch.zeros(2, 4000), torch.tensor([4000, 4000]), 16000, 128, 10.0)
    torch.testing.assert_close(result, torch.full_like(result, SILENCE))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_equals_kaldi_on_the_gpu() -> None:
    waveform = sound(160000)
    result = fbank(waveform[None].cuda(), torch.tensor([160000]).cuda(), 16000, 128, 10.0)
    torch.testing.assert_close(result[0].cpu(), oracle(waveform), atol=LARGEST, rtol=0)
