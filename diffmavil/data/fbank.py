"""Kaldi's log-mel filter bank, for a batch of padded clips, on any device.

Source: Kaldi's ``compute-fbank-feats``; equal to ``torchaudio.compliance.kaldi.fbank`` with
``htk_compat=True, use_energy=False, window_type="hanning", dither=0`` and its other defaults.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_FRAME_LENGTH_MS: Final = 25.0
_PREEMPHASIS: Final = 0.97
_LOWEST_HZ: Final = 20.0
SILENCE: Final = math.log(torch.finfo(torch.float32).eps)
"""Log-mel value of digital silence, in every bin."""


def frame_samples(sample_rate_hz: int, frame_shift_ms: float) -> tuple[int, int]:
    """Length and shift of the analysis frames, in samples."""
    return int(sample_rate_hz * _FRAME_LENGTH_MS * 0.001), int(sample_rate_hz * frame_shift_ms * 0.001)


def count_frames(num_samples: Int[Tensor, " B"], sample_rate_hz: int, frame_shift_ms: float) -> Int[Tensor, " B"]:
    """Frames that fit into clips of some length; at least one, for which zeros fill up a shorter clip."""
    length, shift = frame_samples(sample_rate_hz, frame_shift_ms)
    return 1 + (num_samples - length).clamp(min=0) // shift


def fbank(
    waveform: Float[Tensor, "B S"],
    num_samples: Int[Tensor, " B"],
    sample_rate_hz: int,
    num_mel_bins: int,
    frame_shift_ms: float,
) -> Float[Tensor, "B T F"]:
    """Log-mel spectrogram (natural logarithm of the power) of each clip, its mean removed before.

    Args:
        waveform: Sound in [-1, 1].
        num_samples: Real samples of each clip, in [1, S]; what comes after them is not read.
        sample_rate_hz: Sample rate.
        num_mel_bins: Mel bins between 20 Hz and half the sample rate, at least 4.
        frame_shift_ms: Time from one frame to the next.

    Returns:
        As many frames as fit into S samples. Frames after a clip's last one hold ``SILENCE``.
    """
    length, shift = frame_samples(sample_rate_hz, frame_shift_ms)
    waveform = F.pad(waveform.float(), (0, max(0, length - waveform.shape[1])))
    real = torch.arange(waveform.shape[1], device=waveform.device) < num_samples[:, None]
    mean = (waveform * real).sum(dim=1, keepdim=True) / num_samples[:, None]
    signal = (waveform - mean) * real
    window, mel = _constants(sample_rate_hz, num_mel_bins, length, waveform.device)
    # Kaldi takes out each frame's mean, then pre-emphasises. Both are linear, so the second is done once for all.
    # A frame's first sample would differ, but the window is zero there.
    emphasised = torch.cat([signal[:, :1], signal[:, 1:] - _PREEMPHASIS * signal[:, :-1]], dim=1)
    frame_means = signal.unfold(1, length, shift).mean(dim=2, keepdim=True)
    frames = (emphasised.unfold(1, length, shift) - (1.0 - _PREEMPHASIS) * frame_means).mul_(window)
    if not len(waveform):  # the FFT of no clip at all is an error on a CPU
        return frames.new_empty(0, frames.shape[1], num_mel_bins)
    spectrum = torch.fft.rfft(frames, n=_fft_size(length))
    power = spectrum.real.square().add_(spectrum.imag.square())
    features = (power @ mel).clamp(min=torch.finfo(torch.float32).eps).log()
    is_frame = torch.arange(features.shape[1], device=waveform.device) < count_frames(
        num_samples, sample_rate_hz, frame_shift_ms
    ).unsqueeze(1)
    return torch.where(is_frame[..., None], features, SILENCE)


@lru_cache(maxsize=8)
def _constants(
    sample_rate_hz: int, num_mel_bins: int, length: int, device: torch.device
) -> tuple[Float[Tensor, " L"], Float[Tensor, "K F"]]:
    """The window, and the triangles on the mel scale as a matrix from frequencies to bins."""
    size = _fft_size(length)
    low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (_LOWEST_HZ, sample_rate_hz / 2))
    edges = torch.linspace(low, high, num_mel_bins + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    hz = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * (sample_rate_hz / size)
    mel = 1127.0 * (1.0 + hz / 700.0).log()
    bank = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0.0)
    window = torch.hann_window(length, periodic=False, dtype=torch.float64)
    return window.float().to(device), bank.float().to(device)


def _fft_size(length: int) -> int:
    return int(2 ** math.ceil(math.log2(length)))
