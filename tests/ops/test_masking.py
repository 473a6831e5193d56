"""Masking against a loop, and its properties."""

from __future__ import annotations

import pytest
import torch
from reference.masking import mask

from diffmavil.ops.masking import num_visible, random_masking

VALID = [
    None,
    [[True] * 11, [True] * 11, [True] * 11],
    [[True] * 11, [True] * 5 + [False] * 6, [True] * 1 + [False] * 10],
]


@pytest.mark.parametrize("valid", VALID, ids=["none", "all", "padded"])
@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 0.8, 0.9, 0.99])
def test_agrees_with_the_loop(ratio: float, valid: list[list[bool]] | None) -> None:
    noise = torch.rand(3, 11, generator=torch.Generator().manual_seed(7))
    masking = random_masking(noise, ratio, None if valid is None else torch.tensor(valid))
    for clip in range(3):
        real = [True] * 11 if valid is None else valid[clip]
        visible, masked = mask(noise[clip].tolist(), ratio, real)
        keep, hide = masking.ids_keep[clip].tolist(), masking.ids_mask[clip].tolist()
        keep_real = [True] * len(keep) if masking.keep_valid is None else masking.keep_valid[clip].tolist()
        hide_real = [True] * len(hide) if masking.mask_valid is None else masking.mask_valid[clip].tolist()
        assert {i for i, yes in zip(keep, keep_real, strict=True) if yes} == visible
        assert {i for i, yes in zip(hide, hide_real, strict=True) if yes} == masked
        assert sorted(keep + hide) == list(range(11)), "ids are a permutation"


def test_every_count_of_real_patches_fits_the_slots() -> None:
    for total in (1, 2, 7, 100, 784):
        for ratio in (0.0, 0.1, 0.37, 0.41, 0.47, 0.8, 0.9):
            valid = torch.arange(total) < torch.arange(1, total + 1)[:, None]
            masking = random_masking(torch.rand(total, total), ratio, valid)
            assert masking.keep_valid is not None and masking.mask_valid is not None
            kept = masking.keep_valid.sum(1).tolist()
            assert kept == [num_visible(count, ratio) for count in range(1, total + 1)]
            assert (kept[-1], masking.ids_keep.shape[1]) == (num_visible(total, ratio),) * 2


def test_every_patch_is_visible_equally_often() -> None:
    noise = torch.rand(20_000, 10, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(random_masking(noise, 0.8).ids_keep.flatten(), minlength=10) / 20_000
    assert (share - 0.2).abs().max() < 4 * (0.2 * 0.8 / 20_000) ** 0.5


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.2])
def test_refuses_a_ratio_outside_its_range(ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"mask_ratio must be in \[0, 1\), got {ratio}"):
        num_visible(10, ratio)


def test_a_ratio_that_floats_cannot_hold_counts_right() -> None:
    assert num_visible(10, 0.9) == 1
    assert num_visible(512, 0.8) == 102
    assert num_visible(1000, 0.7) == 300
