"""SpecAugment and mixup, by what they must leave alone and what they must add up to."""

from __future__ import annotations

import torch

from diffmavil.nn.augment import Mixup, SpecAugment
from diffmavil.types import Batch


def test_spec_augment_blanks_one_band_and_one_stretch_of_its_own_in_each_clip() -> None:
    torch.manual_seed(0)
    out = SpecAugment(freq_mask_bins=7, time_mask_frames=11)(torch.ones(64, 1, 40, 30))
    blank = out[:, 0] == 0
    bins, frames = blank.all(1), blank.all(2)
    assert torch.equal(blank, bins[:, None, :] | frames[:, :, None])
    assert 0 < bins.sum(1).max() <= 7
    assert 0 < frames.sum(1).max() <= 11
    for rows in (bins, frames):
        assert (rows.int().diff(dim=1) == 1).sum(1).max() <= 1, "one piece each"
    assert len({tuple(row.tolist()) for row in bins}) > 10


def test_spec_augment_of_no_width_changes_nothing() -> None:
    x = torch.randn(2, 1, 5, 7)
    assert torch.equal(SpecAugment(freq_mask_bins=0, time_mask_frames=0)(x), x)


def test_mixup_mixes_both_streams_and_labels_by_the_same_weight() -> None:
    torch.manual_seed(1)
    ids = torch.arange(5.0)
    batch = Batch(
        index=torch.arange(5),
        audio=ids.view(5, 1, 1, 1).expand(5, 1, 4, 3).clone(),
        audio_frames=torch.tensor([4, 1, 2, 3, 4]),
        video=ids.view(5, 1, 1, 1, 1).expand(5, 3, 2, 4, 4).clone(),
        labels=torch.arange(5),
    )
    mixed = Mixup(alpha=0.5, num_classes=5)(batch)
    assert mixed.audio is not None and mixed.video is not None and mixed.labels is not None
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(5))
    expected = mixed.labels @ ids
    torch.testing.assert_close(mixed.audio[:, 0, 0, 0], expected)
    torch.testing.assert_close(mixed.video[:, 2, 1, 3, 0], expected)
    assert mixed.labels[:, :].diagonal().std() < 1e-6, "one weight for the batch"
    assert mixed.audio_frames is not None
    assert mixed.audio_frames.tolist() == [4, 4, 2, 3, 4], "as long as the longer of the two"
