"""The masked audio-video learner: encode what is visible, fuse, hide the rest, decode it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffmavil.checks import check_number
from diffmavil.nn.decoder import Decoder
from diffmavil.nn.encoder import Encoder, Patches
from diffmavil.nn.fusion import Fusion
from diffmavil.ops.masking import Masking, random_masking
from diffmavil.ops.patches import gather_patches, masked_mean
from diffmavil.types import Batch, ModelOutput, Reconstruction


@dataclass(frozen=True, kw_only=True)
class Built:
    """A builder of models and what it was given.

    Args:
        class_path: Import path of the builder.
        init_args: Its arguments, those that were left at their defaults too.
    """

    class_path: str
    init_args: dict[str, Any]


class MAViL(nn.Module):
    """Masked autoencoders of sound and picture, joined by a fusion transformer.

    MAViL and DiffMAViL are this class with other parts: see :mod:`diffmavil.models.builders`.

    Args:
        audio_encoder: Sees the visible patches of the spectrogram.
        video_encoder: Sees the visible patches of the frames.
        fusion: Sees the visible tokens of both.
        audio_decoder: Predicts masked patches of the spectrogram.
        video_decoder: Predicts masked patches of the frames.
        decode_fraction: Share of the masked patches that is decoded and learned from, in (0, 1]; they are drawn at
            random. Below 1 is CrossMAE's saving (arXiv:2401.14391).

    Source: MAViL, arXiv:2212.08071, section 3.1.

    Raises:
        ValueError: If ``decode_fraction`` is outside (0, 1].
    """

    def __init__(
        self,
        *,
        audio_encoder: Encoder,
        video_encoder: Encoder,
        fusion: Fusion,
        audio_decoder: Decoder,
        video_decoder: Decoder,
        decode_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        check_number("decode_fraction", decode_fraction, above=0, at_most=1)
        self.audio_encoder, self.video_encoder = audio_encoder, video_encoder
        self.fusion = fusion
        self.audio_decoder, self.video_decoder = audio_decoder, video_decoder
        self.decode_fraction = decode_fraction
        self.built: Built | None = None
        """The builder and its arguments, where it is one that remembers them."""

    def forward(
        self, batch: Batch, *, audio_mask_ratio: float, video_mask_ratio: float, num_views: int = 1
    ) -> ModelOutput:
        """Mask a batch and reconstruct it.

        Args:
            batch: Clips with both streams.
            audio_mask_ratio: Share of the spectrogram's patches to hide, in [0, 1).
            video_mask_ratio: Share of the video's patches to hide, in [0, 1).
            num_views: Independently masked views to encode, for the contrast between them; the first is decoded.

        Raises:
            ValueError: If a stream is missing, a ratio is outside [0, 1), or ``num_views`` is below 1.
        """
        if batch.audio is None or batch.video is None:
            raise ValueError(f"batch must hold audio and video, got {'video' if batch.audio is None else 'audio'} only")
        if num_views < 1:
            raise ValueError(f"num_views must be at least 1, got {num_views}")
        audio = self.audio_encoder.patchify(batch.audio, batch.audio_frames)
        video = self.video_encoder.patchify(batch.video, batch.video_frames)
        audio_views = [self._encode(self.audio_encoder, audio, audio_mask_ratio) for _ in range(num_views)]
        video_views = [self._encode(self.video_encoder, video, video_mask_ratio) for _ in range(num_views)]
        (audio_tokens, audio_masking), (video_tokens, video_masking) = audio_views[0], video_views[0]
        audio_fused, video_fused = self.fusion(
            audio_tokens, video_tokens, audio_masking.keep_valid, video_masking.keep_valid
        )
        return ModelOutput(
            audio=self._decode(self.audio_decoder, audio, audio_fused, audio_masking),
            video=self._decode(self.video_decoder, video, video_fused, video_masking),
            audio_embeddings=[masked_mean(tokens, masking.keep_valid) for tokens, masking in audio_views],
            video_embeddings=[masked_mean(tokens, masking.keep_valid) for tokens, masking in video_views],
        )

    @staticmethod
    def _encode(encoder: Encoder, patches: Patches, mask_ratio: float) -> tuple[Tensor, Masking]:
        noise = torch.rand(patches.values.shape[:2], device=patches.values.device)
        masking = random_masking(noise, mask_ratio, patches.valid)
        return encoder(patches, masking.ids_keep, masking.keep_valid), masking

    def _decode(self, decoder: Decoder, patches: Patches, visible: Tensor, masking: Masking) -> Reconstruction:
        count = num_decoded(masking.ids_mask.shape[1], self.decode_fraction)
        ids_decode = masking.ids_mask[:, :count]
        valid = None if masking.mask_valid is None else masking.mask_valid[:, :count]
        target = gather_patches(patches.values, ids_decode)
        tokens, corrupted, timesteps = decoder.corruption(target)
        prediction = decoder(
            visible=visible,
            tokens=tokens,
            grid=patches.grid,
            ids_keep=masking.ids_keep,
            ids_decode=ids_decode,
            visible_valid=masking.keep_valid,
            hidden_valid=valid,
        )
        return Reconstruction(prediction, target, corrupted, timesteps, masking.ids_keep, ids_decode, valid)


def num_decoded(num_masked: int, decode_fraction: float) -> int:
    """Patches that are decoded of ``num_masked``: the fraction, rounded, at least one where there is one."""
    return min(num_masked, max(1, round(num_masked * decode_fraction)))
