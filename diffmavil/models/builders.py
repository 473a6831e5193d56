"""MAViL, DiffMAViL and its efficient variant: the same parts, put together in three ways.

What the paper saves is the difference between these functions. Each is a ``class_path`` for a config, and the place to
copy from when you bring a part of your own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import ParamSpec

from diffmavil.models.mavil import Built, MAViL
from diffmavil.nn import (
    Corruption,
    CrossAttentionTrunk,
    Decoder,
    DecoderTrunk,
    DiffusedPatches,
    Encoder,
    Fusion,
    MaskTokens,
    SelfAttentionTrunk,
)
from diffmavil.ops.patches import check_patch_size
from diffmavil.sizes import SizeName


@dataclass(frozen=True, kw_only=True)
class Size:
    """Widths, depths and heads of encoders, fusion transformer and decoders.

    Args:
        embed_dim: Width of the encoders.
        depth: Blocks of each encoder.
        num_heads: Heads of the encoders.
        fusion_depth: Blocks of the fusion transformer, as wide as the encoders.
        decoder_embed_dim: Width of the decoders.
        decoder_depth: Blocks of each decoder.
        decoder_num_heads: Heads of the decoders.
    """

    embed_dim: int
    depth: int
    num_heads: int
    fusion_depth: int
    decoder_embed_dim: int
    decoder_depth: int
    decoder_num_heads: int


SIZES: dict[SizeName, Size] = {
    "nano": Size(
        embed_dim=128,
        depth=3,
        num_heads=4,
        fusion_depth=1,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4,
    ),
    "tiny": Size(
        embed_dim=192,
        depth=12,
        num_heads=3,
        fusion_depth=2,
        decoder_embed_dim=192,
        decoder_depth=4,
        decoder_num_heads=6,
    ),
    "small": Size(
        embed_dim=384,
        depth=12,
        num_heads=6,
        fusion_depth=2,
        decoder_embed_dim=256,
        decoder_depth=8,
        decoder_num_heads=8,
    ),
    "base": Size(
        embed_dim=768,
        depth=12,
        num_heads=12,
        fusion_depth=2,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
    ),
    "large": Size(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        fusion_depth=2,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
    ),
}
"""``tiny`` to ``large`` are ViT's (arXiv:2010.11929, arXiv:2012.12877); ``nano`` is for two CPU cores."""

AUDIO_CHANNELS, VIDEO_CHANNELS = 1, 3


P = ParamSpec("P")


def remembered(build: Callable[P, MAViL]) -> Callable[P, MAViL]:
    """Make a builder note its name and arguments on the models that it builds, for their checkpoints."""

    @wraps(build)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> MAViL:
        model = build(*args, **kwargs)
        given = signature(build).bind(*args, **kwargs)
        given.apply_defaults()
        package = build.__module__.removesuffix(".builders")  # ours as a config names them: diffmavil.models.mavil
        model.built = Built(class_path=f"{package}.{build.__qualname__}", init_args=dict(given.arguments))
        return model

    return wrapper


@remembered
def mavil(
    *,
    size: SizeName = "base",
    audio_patch_size: tuple[int, int] = (16, 16),
    video_patch_size: tuple[int, int, int] = (2, 16, 16),
    drop_path_rate: float = 0.0,
) -> MAViL:
    """The baseline: mask tokens and self-attention over all tokens in both decoders.

    Args:
        size: nano, tiny, small, base or large.
        audio_patch_size: Spectrogram frames and mel bins of a patch.
        video_patch_size: Frames, height and width (pixels) of a patch.
        drop_path_rate: Stochastic depth of the encoders' last block, in [0, 1).

    Source: MAViL, arXiv:2212.08071.
    """
    s = _size(size, audio_patch_size, video_patch_size)

    def decoder(channels: int, patch_size: tuple[int, ...]) -> Decoder:
        return _decoder(s, channels, patch_size, MaskTokens(embed_dim=s.decoder_embed_dim), _self_attention(s))

    return MAViL(
        audio_encoder=_encoder(s, AUDIO_CHANNELS, audio_patch_size, drop_path_rate),
        video_encoder=_encoder(s, VIDEO_CHANNELS, video_patch_size, drop_path_rate),
        fusion=_fusion(s),
        audio_decoder=decoder(AUDIO_CHANNELS, audio_patch_size),
        video_decoder=decoder(VIDEO_CHANNELS, video_patch_size),
    )


@remembered
def diffmavil(
    *,
    size: SizeName = "base",
    audio_patch_size: tuple[int, int] = (16, 16),
    video_patch_size: tuple[int, int, int] = (2, 16, 16),
    drop_path_rate: float = 0.0,
    timesteps: int = 1000,
    rho: float = 0.8,
) -> MAViL:
    """The paper's model: diffused patches in place of mask tokens, cross-attention in the video decoder.

    Args:
        size: nano, tiny, small, base or large.
        audio_patch_size: Spectrogram frames and mel bins of a patch.
        video_patch_size: Frames, height and width (pixels) of a patch.
        drop_path_rate: Stochastic depth of the encoders' last block, in [0, 1).
        timesteps: Steps of the diffusion process.
        rho: Exponent on the noise variances; below 1 means more noise.

    Source: DiffMAViL, arXiv:2310.03937.
    """
    s = _size(size, audio_patch_size, video_patch_size)

    def decoder(channels: int, patch_size: tuple[int, ...], trunk: DecoderTrunk) -> Decoder:
        return _decoder(s, channels, patch_size, _diffusion(s, channels, patch_size, timesteps, rho), trunk)

    return MAViL(
        audio_encoder=_encoder(s, AUDIO_CHANNELS, audio_patch_size, drop_path_rate),
        video_encoder=_encoder(s, VIDEO_CHANNELS, video_patch_size, drop_path_rate),
        fusion=_fusion(s),
        audio_decoder=decoder(AUDIO_CHANNELS, audio_patch_size, _self_attention(s)),
        video_decoder=decoder(VIDEO_CHANNELS, video_patch_size, _cross_attention(s)),
    )


@remembered
def diffmavil_efficient(
    *,
    size: SizeName = "base",
    audio_patch_size: tuple[int, int] = (16, 16),
    video_patch_size: tuple[int, int, int] = (2, 16, 16),
    drop_path_rate: float = 0.0,
    timesteps: int = 1000,
    rho: float = 0.8,
    decode_fraction: float = 0.5,
) -> MAViL:
    """Beyond the paper: cross-attention in both decoders, and only a part of the masked patches decoded.

    Args:
        size: nano, tiny, small, base or large.
        audio_patch_size: Spectrogram frames and mel bins of a patch.
        video_patch_size: Frames, height and width (pixels) of a patch.
        drop_path_rate: Stochastic depth of the encoders' last block, in [0, 1).
        timesteps: Steps of the diffusion process.
        rho: Exponent on the noise variances; below 1 means more noise.
        decode_fraction: Share of the masked patches that is decoded, in (0, 1].

    Source: CrossMAE, arXiv:2401.14391, applied to DiffMAViL, arXiv:2310.03937.
    """
    s = _size(size, audio_patch_size, video_patch_size)

    def decoder(channels: int, patch_size: tuple[int, ...]) -> Decoder:
        corruption = _diffusion(s, channels, patch_size, timesteps, rho)
        return _decoder(s, channels, patch_size, corruption, _cross_attention(s))

    return MAViL(
        audio_encoder=_encoder(s, AUDIO_CHANNELS, audio_patch_size, drop_path_rate),
        video_encoder=_encoder(s, VIDEO_CHANNELS, video_patch_size, drop_path_rate),
        fusion=_fusion(s),
        audio_decoder=decoder(AUDIO_CHANNELS, audio_patch_size),
        video_decoder=decoder(VIDEO_CHANNELS, video_patch_size),
        decode_fraction=decode_fraction,
    )


def _size(size: SizeName, audio_patch_size: tuple[int, ...], video_patch_size: tuple[int, ...]) -> Size:
    """The size of that name, once the patches are known to be some."""
    check_patch_size("audio_patch_size", audio_patch_size, AUDIO_CHANNELS)
    check_patch_size("video_patch_size", video_patch_size, VIDEO_CHANNELS)
    return SIZES[size]


def _encoder(s: Size, channels: int, patch_size: tuple[int, ...], drop_path_rate: float) -> Encoder:
    return Encoder(
        in_channels=channels,
        patch_size=patch_size,
        embed_dim=s.embed_dim,
        depth=s.depth,
        num_heads=s.num_heads,
        drop_path_rate=drop_path_rate,
    )


def _fusion(s: Size) -> Fusion:
    return Fusion(embed_dim=s.embed_dim, depth=s.fusion_depth, num_heads=s.num_heads)


def _self_attention(s: Size) -> DecoderTrunk:
    return SelfAttentionTrunk(embed_dim=s.decoder_embed_dim, depth=s.decoder_depth, num_heads=s.decoder_num_heads)


def _cross_attention(s: Size) -> DecoderTrunk:
    return CrossAttentionTrunk(embed_dim=s.decoder_embed_dim, depth=s.decoder_depth, num_heads=s.decoder_num_heads)


def _diffusion(s: Size, channels: int, patch_size: tuple[int, ...], timesteps: int, rho: float) -> DiffusedPatches:
    return DiffusedPatches(
        patch_values=channels * math.prod(patch_size),
        embed_dim=s.decoder_embed_dim,
        timesteps=timesteps,
        rho=rho,
    )


def _decoder(
    s: Size, channels: int, patch_size: tuple[int, ...], corruption: Corruption, trunk: DecoderTrunk
) -> Decoder:
    return Decoder(
        encoder_dim=s.embed_dim,
        embed_dim=s.decoder_embed_dim,
        patch_values=channels * math.prod(patch_size),
        corruption=corruption,
        trunk=trunk,
    )
