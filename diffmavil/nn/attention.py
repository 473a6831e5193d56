"""Multi-head attention, of a set of tokens to itself or to another set."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from diffmavil.checks import MAX_WIDTH, check_number


def _check_heads(embed_dim: int, num_heads: int) -> None:
    check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
    check_number("num_heads", num_heads, at_least=1, limit=MAX_WIDTH)
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim must be a multiple of num_heads {num_heads}, got {embed_dim}")


def _attend(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
    mask = None if valid is None else valid[:, None, None, :]
    return rearrange(scaled_dot_product_attention(q, k, v, attn_mask=mask), "b h n d -> b n (h d)")


class SelfAttention(nn.Module):
    """Every token attends to every real token.

    Args:
        embed_dim: Width D.
        num_heads: Heads; must divide ``embed_dim``.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.

    Raises:
        ValueError: If ``num_heads`` does not divide ``embed_dim``.
    """

    def __init__(self, *, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        _check_heads(embed_dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B N D"]:
        """Attend; tokens that are not ``valid`` are attended to by none (``None``: all are real)."""
        q, k, v = rearrange(self.qkv(x), "b n (s h d) -> s b h n d", s=3, h=self.num_heads)
        out: Tensor = self.proj(_attend(q, k, v, valid))
        return out


class CrossAttention(nn.Module):
    """Tokens attend to the real tokens of another set, and not to each other.

    Args:
        embed_dim: Width D of both sets.
        num_heads: Heads; must divide ``embed_dim``.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.

    Raises:
        ValueError: If ``num_heads`` does not divide ``embed_dim``.
    """

    def __init__(self, *, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        _check_heads(embed_dim, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dim, embed_dim)
        self.kv = nn.Linear(embed_dim, 2 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(
        self, x: Float[Tensor, "B M D"], context: Float[Tensor, "B V D"], valid: Bool[Tensor, "B V"] | None
    ) -> Float[Tensor, "B M D"]:
        """Attend from ``x`` to the tokens of ``context`` that are ``valid`` (``None``: all are real)."""
        q = rearrange(self.q(x), "b n (h d) -> b h n d", h=self.num_heads)
        k, v = rearrange(self.kv(context), "b n (s h d) -> s b h n d", s=2, h=self.num_heads)
        out: Tensor = self.proj(_attend(q, k, v, valid))
        return out
