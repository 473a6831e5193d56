"""The transformer in which sound and picture meet."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffmavil.nn.transformer import Transformer, init_weights


class Fusion(nn.Module):
    """Blocks over the tokens of both streams, joined end to end.

    Args:
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Heads; must divide ``embed_dim``.

    Source: MAViL, arXiv:2212.08071, section 3.1.
    """

    def __init__(self, *, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.transformer = Transformer(embed_dim=embed_dim, depth=depth, num_heads=num_heads)
        self.apply(init_weights)

    def forward(
        self,
        audio: Float[Tensor, "B Va D"],
        video: Float[Tensor, "B Vv D"],
        audio_valid: Bool[Tensor, "B Va"] | None,
        video_valid: Bool[Tensor, "B Vv"] | None,
    ) -> tuple[Float[Tensor, "B Va D"], Float[Tensor, "B Vv D"]]:
        """Let the real tokens of both streams see each other (``valid`` is ``None`` when all are real)."""
        valid = None
        if audio_valid is not None or video_valid is not None:
            valid = torch.cat([_or_all(audio_valid, audio), _or_all(video_valid, video)], dim=1)
        fused = self.transformer(torch.cat([audio, video], dim=1), valid)
        return fused[:, : audio.shape[1]], fused[:, audio.shape[1] :]


def _or_all(valid: Tensor | None, tokens: Tensor) -> Tensor:
    return tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if valid is None else valid
