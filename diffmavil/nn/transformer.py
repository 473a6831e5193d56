"""Pre-norm transformer blocks."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffmavil.checks import MAX_DEPTH, MAX_WIDTH, check_number
from diffmavil.nn.attention import CrossAttention, SelfAttention

NORM_EPS = 1e-6


def layer_norm(embed_dim: int) -> nn.LayerNorm:
    """LayerNorm with the epsilon of ViT and MAE."""
    check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
    return nn.LayerNorm(embed_dim, eps=NORM_EPS)


class Block(nn.Module):
    """Self-attention and an MLP, each behind a LayerNorm and around a shortcut.

    The names of its parts are those of a ViT block in timm and in MAE, so their weights fit.

    Args:
        embed_dim: Width D.
        num_heads: Heads; must divide ``embed_dim``.
        mlp_ratio: Hidden width of the MLP over D.
        drop_path_rate: Chance in [0, 1) that a branch is left out for a clip in training.

    Source: ViT, arXiv:2010.11929, equations 2 and 3.
    """

    def __init__(self, *, embed_dim: int, num_heads: int, mlp_ratio: float = 4.0, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        check_number("mlp_ratio", mlp_ratio, above=0, limit=100)
        check_number("drop_path_rate", drop_path_rate, at_least=0, below=1)
        self.norm1 = layer_norm(embed_dim)
        self.attn = SelfAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.norm2 = layer_norm(embed_dim)
        self.mlp = _mlp(embed_dim, mlp_ratio)
        self.drop_path = _drop_path(drop_path_rate)

    def forward(self, x: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B N D"]:
        """Transform; tokens that are not ``valid`` influence no other (``None``: all are real)."""
        x = x + self.drop_path(self.attn(self.norm1(x), valid))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class CrossBlock(nn.Module):
    """Cross-attention to a context and an MLP; the tokens never see each other.

    Args:
        embed_dim: Width D of tokens and context.
        num_heads: Heads; must divide ``embed_dim``.
        mlp_ratio: Hidden width of the MLP over D.

    Source: the ``cross`` decoder of DiffMAE, arXiv:2304.03283, section 3.2; also CrossMAE, arXiv:2401.14391.
    """

    def __init__(self, *, embed_dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        check_number("mlp_ratio", mlp_ratio, above=0, limit=100)
        self.norm1 = layer_norm(embed_dim)
        self.attn = CrossAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.norm2 = layer_norm(embed_dim)
        self.mlp = _mlp(embed_dim, mlp_ratio)

    def forward(
        self, x: Float[Tensor, "B M D"], context: Float[Tensor, "B V D"], valid: Bool[Tensor, "B V"] | None
    ) -> Float[Tensor, "B M D"]:
        """Transform ``x`` by what it reads from the ``valid`` tokens of ``context``."""
        x = x + self.attn(self.norm1(x), context, valid)
        x = x + self.mlp(self.norm2(x))
        return x


class Transformer(nn.Module):
    """A stack of blocks and a final LayerNorm.

    Args:
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Heads; must divide ``embed_dim``.
        mlp_ratio: Hidden width of the MLP over D.
        drop_path_rate: Chance of leaving out the last block's branches; rises to it in a straight line from 0.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_number("depth", depth, at_least=0, limit=MAX_DEPTH)
        self.embed_dim = embed_dim
        self.blocks = nn.ModuleList(
            Block(embed_dim=embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)
        )
        self.norm = layer_norm(embed_dim)
        self.set_drop_path_rate(drop_path_rate)

    def set_drop_path_rate(self, drop_path_rate: float) -> None:
        """Set the blocks' stochastic depth: the last block's rate, from 0 in a straight line.

        Raises:
            ValueError: If it is outside [0, 1).
        """
        check_number("drop_path_rate", drop_path_rate, at_least=0, below=1)
        for number, block in enumerate(self.blocks):
            block.drop_path = _drop_path(drop_path_rate * number / max(len(self.blocks) - 1, 1))

    def forward(
        self, x: Float[Tensor, "B N D"], valid: Bool[Tensor, "B N"] | None = None, depth: int | None = None
    ) -> Float[Tensor, "B N D"]:
        """Run the first ``depth`` blocks (``None``: all of them) and the norm; see :class:`Block` for ``valid``."""
        for block in list(self.blocks)[:depth]:
            x = block(x, valid)
        x = self.norm(x)
        return x


def init_weights(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for linear layers; to be used with ``module.apply``.

    Source: MAE, arXiv:2111.06377, appendix A.1.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# timm is imported where a network is built, as all of its models come with it: commands that build none start quicker.


def _mlp(embed_dim: int, mlp_ratio: float) -> nn.Module:
    from timm.layers import Mlp

    return Mlp(embed_dim, int(embed_dim * mlp_ratio))


def _drop_path(drop_path_rate: float) -> nn.Module:
    from timm.layers import DropPath

    return DropPath(drop_path_rate)
