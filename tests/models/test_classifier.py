"""The classifier: which streams it reads, and that padding stays out."""

from __future__ import annotations

import pytest
import torch
from small import batch, learner

from diffmavil.models import Classifier


@pytest.mark.parametrize("modalities", ["audio", "video", "audio_video"])
def test_reads_the_streams_it_is_built_for(modalities: str) -> None:
    model = Classifier(backbone=learner(), modalities=modalities, num_classes=5).eval()
    clips = batch()
    scores = model(clips)
    assert scores.shape == (3, 5)
    for stream in ("audio", "video"):
        changed = batch()
        setattr(changed, stream, torch.randn_like(getattr(changed, stream)))
        assert torch.equal(model(changed), scores) == (stream not in modalities)
        assert all(stream in modalities or f"{stream}_encoder" not in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("modalities", ["audio", "audio_video"])
def test_padding_changes_nothing(modalities: str) -> None:
    model = Classifier(backbone=learner(), modalities=modalities, num_classes=5).eval()
    one, two = (batch(audio_frames=[48, 16, 32]) for _ in range(2))
    assert two.audio is not None
    two.audio[1, :, 16:], two.audio[2, :, 32:] = 9.0, 9.0
    torch.testing.assert_close(model(one), model(two), atol=1e-5, rtol=1e-5)


def test_a_short_clip_scores_the_same_with_and_without_padding() -> None:
    model = Classifier(backbone=learner(), modalities="audio", num_classes=5).eval()
    long = batch(audio_frames=[16, 16, 16])
    short = batch()
    assert short.audio is not None
    short.audio = short.audio[:, :, :16]
    torch.testing.assert_close(model(long), model(short), atol=1e-5, rtol=1e-5)


def test_token_masking_acts_in_training_only() -> None:
    model = Classifier(backbone=learner(), modalities="audio", num_classes=5, token_mask_ratio=0.5)
    clips = batch()
    model.eval()
    assert torch.equal(model(clips), model(clips))
    model.train()
    assert not torch.equal(model(clips), model(clips))


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        Classifier(backbone=learner(), modalities="audio", num_classes=1)
    clips = batch()
    clips.audio = None
    with pytest.raises(ValueError, match="batch must hold audio, got none"):
        Classifier(backbone=learner(), modalities="audio", num_classes=2)(clips)
