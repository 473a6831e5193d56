"""Mean and standard deviation of the log-mel values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media import tone, write_media
from torchaudio.compliance import kaldi

from diffmavil.commands.stats import measure
from diffmavil.data import ClipDataModule, ManifestSource


def test_statistics_over_the_real_frames_of_the_train_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    features = []
    for k, seconds in enumerate((0.5, 1.0, 0.9, 2.0)):
        sound = tone(seconds, 300.0 * (k + 1)) + 0.05 * generator.standard_normal((1, round(seconds * 16000)))
        samples = np.round(sound[0] * 32767).astype(np.int16)
        write_media(tmp_path / f"{k}.wav", sound=sound.astype(np.float32), audio_codec="pcm_s16le")
        waveform = torch.from_numpy(samples).float() / 32768
        if k < 3:  # the last one is for testing
            features.append(
                kaldi.fbank(
                    (waveform - waveform.mean())[None],
                    htk_compat=True,
                    use_energy=False,
                    window_type="hanning",
                    num_mel_bins=64,
                    dither=0.0,
                )
            )
    (tmp_path / "m.csv").write_text("path,split\n0.wav,train\n1.wav,train\n2.wav,train\nx.wav,train\n3.wav,test\n")
    data = ClipDataModule(
        source=ManifestSource(path=tmp_path / "m.csv"),
        modalities="audio",
        batch_size=2,
        num_workers=0,
        clip_s=1.5,
        num_mel_bins=64,
        audio_mean=3.0,
        audio_std=0.1,
    )
    mean, std = measure(data)
    expected = torch.cat(features)
    assert mean == pytest.approx(float(expected.mean()), abs=2e-2)
    assert std == pytest.approx(float(expected.std()), abs=2e-2)
    assert capsys.readouterr().out == f"audio_mean: {mean:.4f}\naudio_std: {std:.4f}\n"


def test_pictures_alone_have_no_statistics(tmp_path: Path) -> None:
    data = ClipDataModule(source=ManifestSource(path=tmp_path / "m.csv"), modalities="video")
    with pytest.raises(ValueError, match="modalities must contain audio to measure its statistics, got video"):
        measure(data)
