"""A classifier on one or both encoders of a masked learner."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffmavil.checks import check_number
from diffmavil.models.mavil import MAViL
from diffmavil.nn.encoder import Encoder
from diffmavil.nn.transformer import layer_norm
from diffmavil.ops.masking import random_masking
from diffmavil.ops.patches import masked_mean
from diffmavil.types import Batch, Modalities


class _Encoded(NamedTuple):
    tokens: Float[Tensor, "B V D"]
    valid: Bool[Tensor, "B V"] | None


class Classifier(nn.Module):
    """Encoders, mean over the real tokens of each stream, a norm and a linear layer.

    With both streams, the fusion transformer of the masked learner lies between encoders and mean, and the two means
    are joined end to end.

    Args:
        backbone: The masked learner whose encoders (and fusion) are taken over; its decoders are dropped.
        modalities: Streams to classify from.
        num_classes: Number of classes K.
        token_mask_ratio: Share of each clip's patches left out in training, in [0, 1): a regulariser that also saves
            time.

    Source: MAViL, arXiv:2212.08071, section 4 (mean-pooled halves, one linear layer).

    Raises:
        ValueError: If ``num_classes`` is below 2 or ``token_mask_ratio`` outside [0, 1).
    """

    def __init__(
        self, *, backbone: MAViL, modalities: Modalities, num_classes: int, token_mask_ratio: float = 0.0
    ) -> None:
        super().__init__()
        check_number("num_classes", num_classes, at_least=2, limit=1_000_000)
        check_number("token_mask_ratio", token_mask_ratio, at_least=0, below=1)
        self.audio_encoder = backbone.audio_encoder if modalities != "video" else None
        self.video_encoder = backbone.video_encoder if modalities != "audio" else None
        self.fusion = backbone.fusion if modalities == "audio_video" else None
        width = backbone.fusion.embed_dim * (2 if modalities == "audio_video" else 1)
        self.norm = layer_norm(width)
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.token_mask_ratio = token_mask_ratio

    def forward(self, batch: Batch) -> Float[Tensor, "B K"]:
        """Scores of the classes, before softmax or sigmoid.

        Raises:
            ValueError: If the batch lacks a stream that the classifier reads.
        """
        encoded = []
        if self.audio_encoder is not None:
            encoded.append(self._encode("audio", self.audio_encoder, batch.audio, batch.audio_frames))
        if self.video_encoder is not None:
            encoded.append(self._encode("video", self.video_encoder, batch.video, batch.video_frames))
        if self.fusion is not None:
            audio, video = encoded
            fused = self.fusion(audio.tokens, video.tokens, audio.valid, video.valid)
            encoded = [_Encoded(fused[0], audio.valid), _Encoded(fused[1], video.valid)]
        pooled = torch.cat([masked_mean(stream.tokens, stream.valid) for stream in encoded], dim=1)
        out: Tensor = self.head(self.norm(pooled))
        return out

    def _encode(self, name: str, encoder: Encoder, x: Tensor | None, num_frames: Tensor | None) -> _Encoded:
        if x is None:
            raise ValueError(f"batch must hold {name}, got none")
        patches = encoder.patchify(x, num_frames)
        ids, valid = patches.all_ids, patches.valid
        if self.training and self.token_mask_ratio > 0:
            noise = torch.rand(ids.shape, device=ids.device)
            masking = random_masking(noise, self.token_mask_ratio, valid)
            ids, valid = masking.ids_keep, masking.keep_valid
        return _Encoded(encoder(patches, ids, valid), valid)
