"""The cross-attention decoder against loops, and what each decoder lets through."""

from __future__ import annotations

import itertools

import pytest
import torch
from reference.cross_decoder import cross_decoder
from torch import Tensor

from diffmavil.nn import CrossAttentionTrunk, Decoder, MaskTokens, SelfAttentionTrunk


@pytest.mark.parametrize("grid", [(4, 3), (2, 2, 3)])
def test_the_cross_attention_decoder_agrees_with_the_loops(grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    trunk = CrossAttentionTrunk(embed_dim=48, depth=2, num_heads=3)
    decoder = Decoder(
        encoder_dim=10, embed_dim=48, patch_values=6, corruption=MaskTokens(embed_dim=48), trunk=trunk
    ).double()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    places = list(itertools.product(*(range(n) for n in grid)))
    order = torch.stack([torch.randperm(len(places)) for _ in range(2)])
    ids_keep, ids_decode = order[:, :7], order[:, 7:]
    visible, tokens = torch.randn(2, 7, 10).double(), torch.randn(2, 5, 48).double()
    real = [7, 3]
    out = decoder(
        visible=visible,
        tokens=tokens,
        grid=grid,
        ids_keep=ids_keep,
        ids_decode=ids_decode,
        visible_valid=torch.arange(7) < torch.tensor(real)[:, None],
        hidden_valid=torch.ones(2, 5, dtype=torch.bool),
    )
    state = {name: value.detach() for name, value in decoder.state_dict().items()}
    for clip in range(2):
        seen = [(visible[clip, i], places[ids_keep[clip, i]]) for i in range(real[clip])]
        for m in range(5):
            hidden = tokens[clip, m], places[ids_decode[clip, m]]
            expected = cross_decoder(hidden, seen, state, depth=2, heads=3)
            torch.testing.assert_close(out[clip, m], expected, atol=1e-5, rtol=1e-5)


def _influence(trunk: torch.nn.Module) -> Tensor:
    """Which hidden inputs (columns) change which hidden outputs (rows)."""
    hidden = torch.randn(1, 5, 16, requires_grad=True)
    out = trunk(hidden, torch.randn(1, 3, 16), None, None)
    rows = [torch.autograd.grad(out[0, m].sum(), hidden, retain_graph=True)[0].abs().sum((0, 2)) for m in range(5)]
    return torch.stack(rows) > 0


def test_hidden_tokens_see_each_other_only_in_self_attention() -> None:
    assert torch.equal(_influence(CrossAttentionTrunk(embed_dim=16, depth=2, num_heads=2)), torch.eye(5).bool())
    assert _influence(SelfAttentionTrunk(embed_dim=16, depth=2, num_heads=2)).all()


def test_padding_changes_nothing_that_is_real() -> None:
    for trunk in (
        CrossAttentionTrunk(embed_dim=16, depth=2, num_heads=2),
        SelfAttentionTrunk(embed_dim=16, depth=2, num_heads=2),
    ):
        hidden, visible = torch.randn(1, 5, 16), torch.randn(1, 7, 16)
        hidden_valid, visible_valid = torch.arange(5)[None] < 4, torch.arange(7)[None] < 6
        expected = trunk(hidden[:, :4], visible[:, :6], None, None)
        out = trunk(hidden, visible, hidden_valid, visible_valid)[:, :4]
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
