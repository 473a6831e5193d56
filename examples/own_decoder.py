"""A part of one's own: decoder blocks, their FLOPs, and a builder that puts them in.

From the repository's root::

    python -m diffmavil fit --config pretrain.yaml --model.model examples.own_decoder.diffmavil_cross_self
"""

from __future__ import annotations

from torch import Tensor, nn

from diffmavil.flops import block_flops, cross_block_flops, trunk_flops
from diffmavil.models import MAViL, diffmavil
from diffmavil.models.builders import SIZES
from diffmavil.nn import DecoderTrunk
from diffmavil.nn.transformer import Block, CrossBlock, init_weights, layer_norm
from diffmavil.sizes import SizeName


class CrossSelfTrunk(DecoderTrunk):
    """Hidden tokens read from the visible ones, then from each other (``cross-self`` of DiffMAE, arXiv:2304.03283)."""

    def __init__(self, *, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.embed_dim, self.norm = embed_dim, layer_norm(embed_dim)
        self.cross = nn.ModuleList(CrossBlock(embed_dim=embed_dim, num_heads=num_heads) for _ in range(depth))
        self.own = nn.ModuleList(Block(embed_dim=embed_dim, num_heads=num_heads) for _ in range(depth))
        self.apply(init_weights)

    def forward(
        self, hidden: Tensor, visible: Tensor, hidden_valid: Tensor | None, visible_valid: Tensor | None
    ) -> Tensor:
        """Run the blocks over the hidden tokens."""
        for cross, own in zip(self.cross, self.own, strict=True):
            hidden = own(cross(hidden, self.norm(visible), visible_valid), hidden_valid)
        return hidden


@trunk_flops.register
def _(trunk: CrossSelfTrunk, hidden: int, visible: int) -> int:
    n, dim = len(trunk.cross), trunk.embed_dim
    return n * (cross_block_flops(hidden, visible, dim) + block_flops(hidden, dim))


def diffmavil_cross_self(*, size: SizeName = "base", rho: float = 0.8) -> MAViL:
    """DiffMAViL with such a video decoder."""
    s, model = SIZES[size], diffmavil(size=size, rho=rho)
    width, depth, heads = s.decoder_embed_dim, s.decoder_depth // 2, s.decoder_num_heads
    model.video_decoder.trunk = CrossSelfTrunk(embed_dim=width, depth=depth, num_heads=heads)
    return model
