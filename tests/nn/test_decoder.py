"""The cross-attention decoder against loops, and what each decoder lets through."""

from __future__ import annotations

import torch
from reference.cross_decoder import cross_trunk
from torch import Tensor

from diffmavil.nn import CrossAttentionTrunk, SelfAttentionTrunk


def test_cross_attention_agrees_with_the_loops() -> None:
    torch.manual_seed(0)
    trunk = CrossAttentionTrunk(embed_dim=12, depth=2, num_heads=3).double()
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    hidden, visible = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 12).double()
    real = [7, 3]
    valid = torch.arange(7) < torch.tensor(real)[:, None]
    out = trunk(hidden, visible, None, valid)
    state = {name: value.detach() for name, value in trunk.state_dict().items()}
    for clip in range(2):
        for m in range(5):
            expected = cross_trunk(hidden[clip, m], list(visible[clip, : real[clip]]), state, depth=2, heads=3)
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
