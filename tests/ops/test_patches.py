"""Patches: slices of the input, put back without loss."""

from __future__ import annotations

import pytest
import torch

from diffmavil.ops.patches import gather_patches, masked_mean, patchify, unpatchify, valid_patches


def test_audio_patches_are_slices_time_first() -> None:
    x = torch.randn(2, 1, 15, 14)
    patches = patchify(x, (5, 7))
    n = 0
    for t in range(3):
        for f in range(2):
            expected = x[:, :, 5 * t : 5 * t + 5, 7 * f : 7 * f + 7].flatten(1)
            assert torch.equal(patches[:, n], expected)
            n += 1
    assert n == patches.shape[1]


def test_video_patches_are_what_a_convolution_sees() -> None:
    x = torch.randn(2, 3, 4, 10, 14)
    weight = torch.randn(11, 3, 2, 5, 7)
    by_convolution = torch.nn.functional.conv3d(x, weight, stride=(2, 5, 7)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patchify(x, (2, 5, 7)) @ weight.flatten(1).T, by_convolution, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "patch", "grid"),
    [((2, 1, 15, 14), (5, 7), (3, 2)), ((2, 3, 4, 10, 14), (2, 5, 7), (2, 2, 2))],
)
def test_unpatchify_is_the_inverse(shape: tuple[int, ...], patch: tuple[int, ...], grid: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.equal(unpatchify(patchify(x, patch), patch, grid), x)


def test_refuses_a_size_that_is_no_multiple() -> None:
    with pytest.raises(ValueError, match=r"multiple of patch_size \(5, 7\) on each axis, got \(16, 14\)"):
        patchify(torch.randn(1, 1, 16, 14), (5, 7))


def test_valid_patches_round_to_the_nearest_and_never_to_none() -> None:
    valid = valid_patches(torch.tensor([0, 1, 7, 8, 23, 24, 48]), (3, 2), 16)
    assert valid.sum(1).tolist() == [2, 2, 2, 2, 2, 4, 6]
    assert (valid.int().diff(dim=1) <= 0).all(), "real patches come first"


def test_masked_mean_leaves_padding_out() -> None:
    x = torch.randn(3, 7, 5)
    valid = torch.arange(7) < torch.tensor([7, 3, 1])[:, None]
    expected = torch.stack([x[b, :n].mean(0) for b, n in enumerate((7, 3, 1))])
    torch.testing.assert_close(masked_mean(x, valid), expected)
    torch.testing.assert_close(masked_mean(x, None), x.mean(1))


def test_gather_patches_takes_rows_clip_by_clip() -> None:
    x, ids = torch.randn(2, 5, 3), torch.tensor([[4, 0], [1, 1]])
    assert torch.equal(gather_patches(x, ids), torch.stack([x[0, [4, 0]], x[1, [1, 1]]]))
