"""Blocks against timm's, with the same weights."""

from __future__ import annotations

import pytest
import timm
import torch

from diffmavil.nn.attention import CrossAttention, SelfAttention
from diffmavil.nn.transformer import Block, Transformer


def test_a_block_is_timms_block() -> None:
    theirs = timm.models.vision_transformer.Block(dim=24, num_heads=3, qkv_bias=True).eval()
    ours = Block(embed_dim=24, num_heads=3).eval()
    ours.load_state_dict(theirs.state_dict())
    for block in (theirs, ours):
        for module in block.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x, None), theirs(x), atol=1e-5, rtol=1e-5)


def test_cross_attention_to_itself_is_self_attention() -> None:
    same, cross = SelfAttention(embed_dim=24, num_heads=3), CrossAttention(embed_dim=24, num_heads=3)
    state = same.state_dict()
    cross.load_state_dict(
        {
            **{f"q.{k}": state[f"qkv.{k}"][:24] for k in ("weight", "bias")},
            **{f"kv.{k}": state[f"qkv.{k}"][24:] for k in ("weight", "bias")},
            **{f"proj.{k}": state[f"proj.{k}"] for k in ("weight", "bias")},
        }
    )
    x, valid = torch.randn(2, 7, 24), torch.arange(7) < torch.tensor([[7], [4]])
    torch.testing.assert_close(cross(x, x, valid), same(x, valid), atol=1e-5, rtol=1e-5)


def test_drop_path_rises_with_depth_and_rests_in_evaluation() -> None:
    transformer = Transformer(embed_dim=16, depth=3, num_heads=2, drop_path_rate=0.5)
    assert [block.drop_path.drop_prob for block in transformer.blocks] == [0.0, 0.25, 0.5]
    x = torch.randn(2, 5, 16)
    transformer.eval()
    assert torch.equal(transformer(x), transformer(x))
    transformer.train()
    assert not torch.equal(transformer(x), transformer(x))


def test_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="embed_dim must be a multiple of num_heads 5, got 24"):
        SelfAttention(embed_dim=24, num_heads=5)
    with pytest.raises(ValueError, match=r"drop_path_rate must be in \[0, 1\), got 1.0"):
        Transformer(embed_dim=16, depth=1, num_heads=2, drop_path_rate=1.0)
