"""Cut a spectrogram or a video into patches and put it together again.

Both kinds of input are ``(B, C, T, ...)``: a spectrogram has one axis of space (mel bins), a video two (height,
width). Patches are numbered time first, so the patches of a clip's real part are always a prefix of its list.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffmavil.checks import MAX_PATCH_VALUES, check_number

_LAYOUTS = {
    2: ("b c (t p) (f q)", "b (t f) (c p q)", ("t", "f"), ("p", "q")),
    3: ("b c (t u) (h p) (w q)", "b (t h w) (c u p q)", ("t", "h", "w"), ("u", "p", "q")),
}


def check_patch_size(name: str, patch_size: tuple[int, ...], channels: int) -> None:
    """Refuse the size of a patch that is none.

    Args:
        name: The size's name, as the user writes it.
        patch_size: Length of a patch along each axis.
        channels: Channels of the input.

    Raises:
        ValueError: If an axis is below 1, or a patch holds more than 65536 values.
    """
    for length in (None,) if patch_size is None else patch_size:
        check_number(name, length, at_least=1, limit=MAX_PATCH_VALUES)
    if (values := channels * math.prod(patch_size)) > MAX_PATCH_VALUES:
        raise ValueError(f"{name} must make patches of at most {MAX_PATCH_VALUES} values, got {values}")


def patch_grid(size: tuple[int, ...], patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """Number of patches along each axis.

    Args:
        size: Length of each axis of the input, time first.
        patch_size: Length of a patch along each of them.

    Raises:
        ValueError: If an axis is not a whole number of patches.
    """
    if len(size) != len(patch_size):
        raise ValueError(f"patch_size must name {len(size)} axes, got {patch_size}")
    if any(length < 1 or length % patch for length, patch in zip(size, patch_size, strict=True)):
        raise ValueError(f"input size must be a multiple of patch_size {patch_size} on each axis, got {size}")
    return tuple(length // patch for length, patch in zip(size, patch_size, strict=True))


def patchify(x: Float[Tensor, "B C T ..."], patch_size: tuple[int, ...]) -> Float[Tensor, "B N P"]:
    """Cut into patches; the values of one are ordered channel, time, space (as a convolution's weight is).

    Raises:
        ValueError: If an axis is not a whole number of patches.
    """
    patch_grid(tuple(x.shape[2:]), patch_size)
    whole, cut, _, inner = _LAYOUTS[len(patch_size)]
    return rearrange(x, f"{whole} -> {cut}", **dict(zip(inner, patch_size, strict=True)))


def unpatchify(
    patches: Float[Tensor, "B N P"], patch_size: tuple[int, ...], grid: tuple[int, ...]
) -> Float[Tensor, "B C T ..."]:
    """The inverse of :func:`patchify`."""
    whole, cut, outer, inner = _LAYOUTS[len(patch_size)]
    sizes = dict(zip(outer + inner, grid + patch_size, strict=True))
    return rearrange(patches, f"{cut} -> {whole}", **sizes)


def valid_patches(num_frames: Int[Tensor, " B"], grid: tuple[int, ...], frames_per_patch: int) -> Bool[Tensor, "B N"]:
    """Which patches hold the clip, and which its padding.

    A patch counts as the clip's when at least half of its frames are real; the first one always does.

    Args:
        num_frames: Real frames of each clip.
        grid: Patches along each axis, time first.
        frames_per_patch: Length of a patch in frames.
    """
    steps = ((num_frames + frames_per_patch // 2) // frames_per_patch).clamp(min=1)
    step_of_patch = torch.arange(math.prod(grid), device=num_frames.device) // math.prod(grid[1:])
    return step_of_patch < steps[:, None]


def gather_patches(x: Float[Tensor, "B N X"], ids: Int[Tensor, "B V"]) -> Float[Tensor, "B V X"]:
    """Take the rows that ``ids`` names from each clip."""
    return x.gather(1, ids[:, :, None].expand(-1, -1, x.shape[2]))


def masked_mean(x: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B D"]:
    """Mean over the real patches of each clip (over all of them when ``valid`` is ``None``)."""
    if valid is None:
        return reduce(x, "b n d -> b d", "mean")
    weight = valid.to(x.dtype)  # no einsum: autocast would run it in half precision
    return (x * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)
