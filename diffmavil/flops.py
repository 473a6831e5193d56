"""FLOPs of one clip, part by part, from the mask ratio in force.

A multiply and an add count as two. Only matrix products are counted (norms, activations, softmax and additions are
not), which is what PyTorch's ``FlopCounterMode`` counts and what papers report. With n tokens of width d:

- a linear layer from d to e:           ``2 n d e``
- self-attention: q, k, v and output    ``2 n d 3d + 2 n d d = 8 n d^2``
  scores and weighted sum               ``2 n n d + 2 n n d = 4 n^2 d``
- an MLP of hidden width 4d:            ``2 n d 4d + 2 n 4d d = 16 n d^2``
- so a block costs                      ``24 n d^2 + 4 n^2 d``
- cross-attention of m tokens to v:     ``4 m d^2`` (q, output) ``+ 4 v d^2`` (k, v) ``+ 4 m v d``
- so a cross block costs                ``20 m d^2 + 4 v d^2 + 4 m v d``

The backward pass costs twice the forward one (a product for the input's gradient and one for the weight's), so a
training step costs three times the forward pass. Source of the rule: Kaplan et al., arXiv:2001.08361, section 2.1.
"""

from __future__ import annotations

import math
from functools import singledispatch

from torch import nn

from diffmavil.models.classifier import Classifier
from diffmavil.models.mavil import MAViL, num_decoded
from diffmavil.nn import (
    Corruption,
    CrossAttentionTrunk,
    DiffusedPatches,
    Encoder,
    MaskTokens,
    SelfAttentionTrunk,
)
from diffmavil.ops.masking import num_visible
from diffmavil.ops.patches import patch_grid

TRAINING_FACTOR = 3
"""FLOPs of a training step over those of its forward pass."""

MLP_RATIO = 4


def linear_flops(tokens: int, in_features: int, out_features: int) -> int:
    """A linear layer on ``tokens`` vectors."""
    return 2 * tokens * in_features * out_features


def block_flops(tokens: int, dim: int) -> int:
    """A transformer block over ``tokens`` tokens of width ``dim``."""
    return (8 + 4 * MLP_RATIO) * tokens * dim**2 + 4 * tokens**2 * dim


def cross_block_flops(hidden: int, visible: int, dim: int) -> int:
    """A cross-attention block from ``hidden`` tokens to ``visible`` ones, of width ``dim``."""
    return (4 + 4 * MLP_RATIO) * hidden * dim**2 + 4 * visible * dim**2 + 4 * hidden * visible * dim


@singledispatch
def trunk_flops(trunk: nn.Module, hidden: int, visible: int) -> int:
    """A decoder trunk on ``hidden`` and ``visible`` tokens; register a formula for a trunk of your own.

    Raises:
        ValueError: If the trunk's kind has no formula.
    """
    raise ValueError(f"trunk must have a formula registered with trunk_flops, got {type(trunk).__name__}")


@trunk_flops.register
def _(trunk: SelfAttentionTrunk, hidden: int, visible: int) -> int:
    return len(trunk.blocks) * block_flops(hidden + visible, trunk.embed_dim)


@trunk_flops.register
def _(trunk: CrossAttentionTrunk, hidden: int, visible: int) -> int:
    return len(trunk.blocks) * cross_block_flops(hidden, visible, trunk.embed_dim)


@singledispatch
def corruption_flops(corruption: Corruption, patch_values: int, embed_dim: int, hidden: int) -> int:
    """Showing ``hidden`` patches to a decoder of width ``embed_dim``; register a formula for a corruption of your own.

    Raises:
        ValueError: If the corruption's kind has no formula.
    """
    raise ValueError(
        f"corruption must have a formula registered with corruption_flops, got {type(corruption).__name__}"
    )


@corruption_flops.register
def _(corruption: MaskTokens, patch_values: int, embed_dim: int, hidden: int) -> int:
    return 0


@corruption_flops.register
def _(corruption: DiffusedPatches, patch_values: int, embed_dim: int, hidden: int) -> int:
    timestep_mlp = 2 * linear_flops(1, embed_dim, embed_dim)
    return linear_flops(hidden, patch_values, embed_dim) + timestep_mlp


def num_patches(encoder: Encoder, size: tuple[int, ...]) -> int:
    """Patches that an encoder cuts an input of ``size`` (time first) into."""
    return math.prod(patch_grid(size, encoder.patch_size))


def learner_flops(
    model: MAViL,
    *,
    audio_size: tuple[int, int],
    video_size: tuple[int, int, int],
    audio_mask_ratio: float,
    video_mask_ratio: float,
    num_views: int = 1,
) -> dict[str, int]:
    """Forward FLOPs of a masked learner for one clip, by part.

    Args:
        model: The learner; only its sizes are read.
        audio_size: Spectrogram frames and mel bins.
        video_size: Frames, height and width (pixels).
        audio_mask_ratio: Share of the spectrogram's patches hidden, in [0, 1).
        video_mask_ratio: Share of the video's patches hidden, in [0, 1).
        num_views: Views encoded; one is decoded.

    Returns:
        FLOPs of ``embedding`` (of patches, and of what the decoders are shown), ``audio_encoder``, ``video_encoder``,
        ``fusion``, ``audio_decoder``, ``video_decoder`` and ``heads`` (the layers that predict).
    """
    parts = dict.fromkeys(("embedding", "audio_encoder", "video_encoder"), 0)
    dim = model.fusion.embed_dim
    fused = 0
    decoders = {"audio_decoder": 0, "video_decoder": 0}
    heads = 0
    for name, encoder, decoder, size, ratio in (
        ("audio", model.audio_encoder, model.audio_decoder, audio_size, audio_mask_ratio),
        ("video", model.video_encoder, model.video_decoder, video_size, video_mask_ratio),
    ):
        total = num_patches(encoder, size)
        visible = num_visible(total, ratio)
        hidden = num_decoded(total - visible, model.decode_fraction)
        fused += visible
        parts["embedding"] += num_views * linear_flops(visible, encoder.patch_values, dim)
        parts["embedding"] += corruption_flops(decoder.corruption, encoder.patch_values, decoder.embed_dim, hidden)
        parts[f"{name}_encoder"] = num_views * len(encoder.transformer.blocks) * block_flops(visible, dim)
        decoders[f"{name}_decoder"] = linear_flops(visible, dim, decoder.embed_dim) + trunk_flops(
            decoder.trunk, hidden, visible
        )
        heads += linear_flops(hidden, decoder.embed_dim, encoder.patch_values)
    fusion = len(model.fusion.transformer.blocks) * block_flops(fused, dim)
    return {**parts, "fusion": fusion, **decoders, "heads": heads}


def classifier_flops(
    model: Classifier, *, audio_size: tuple[int, int] | None, video_size: tuple[int, int, int] | None
) -> dict[str, int]:
    """Forward FLOPs of a classifier in training for one clip, by part.

    Args:
        model: The classifier; only its sizes are read.
        audio_size: Spectrogram frames and mel bins; ``None`` where it hears nothing.
        video_size: Frames, height and width (pixels); ``None`` where it sees nothing.

    Returns:
        FLOPs of ``embedding``, ``audio_encoder``, ``video_encoder``, ``fusion`` and ``heads``.
    """
    parts = dict.fromkeys(("embedding", "audio_encoder", "video_encoder", "fusion"), 0)
    fused = 0
    for name, encoder, size in (
        ("audio_encoder", model.audio_encoder, audio_size),
        ("video_encoder", model.video_encoder, video_size),
    ):
        if encoder is None or size is None:
            continue
        tokens = num_visible(num_patches(encoder, size), model.token_mask_ratio)
        fused += tokens
        parts["embedding"] += linear_flops(tokens, encoder.patch_values, encoder.embed_dim)
        parts[name] = len(encoder.transformer.blocks) * block_flops(tokens, encoder.embed_dim)
    if model.fusion is not None:
        parts["fusion"] = len(model.fusion.transformer.blocks) * block_flops(fused, model.fusion.embed_dim)
    return {**parts, "heads": linear_flops(1, model.head.in_features, model.head.out_features)}
