"""The cross-attention decoder of DiffMAE (arXiv:2304.03283), one hidden token, one head and one key at a time.

It reads the weights of the module under test by name and does the arithmetic itself, in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean()
    return centred / math.sqrt(float((centred**2).mean()) + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def _linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def _gelu(x: Tensor) -> Tensor:
    return torch.tensor([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=x.dtype)


def cross_trunk(hidden: Tensor, visible: list[Tensor], state: dict[str, Tensor], depth: int, heads: int) -> Tensor:
    """One hidden token ``(D,)`` through all blocks, given the real visible tokens ``(D,)`` of its clip."""
    dim = len(hidden)
    width = dim // heads
    context = [_norm(v, state, "norm") for v in visible]
    for b in range(depth):
        at = f"blocks.{b}"
        q = _linear(_norm(hidden, state, f"{at}.norm1"), state, f"{at}.attn.q")
        pairs = [_linear(c, state, f"{at}.attn.kv") for c in context]
        out = torch.zeros_like(hidden)
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            scores = [math.exp(float(q[part] @ kv[:dim][part]) / math.sqrt(width)) for kv in pairs]
            for score, kv in zip(scores, pairs, strict=True):
                out[part] += score / sum(scores) * kv[dim:][part]
        hidden = hidden + _linear(out, state, f"{at}.attn.proj")
        inner = _gelu(_linear(_norm(hidden, state, f"{at}.norm2"), state, f"{at}.mlp.fc1"))
        hidden = hidden + _linear(inner, state, f"{at}.mlp.fc2")
    return hidden


def _position(place: tuple[int, ...], dim: int) -> Tensor:
    """Sines and cosines of a patch's place, time first, each axis in its share of the channels."""
    shares = {2: (1 / 2, 1 / 2), 3: (1 / 4, 3 / 8, 3 / 8)}[len(place)]
    values: list[float] = []
    for along, share in zip(place, shares, strict=True):
        width = round(dim * share)
        angles = [along / 10000 ** (2 * i / width) for i in range(width // 2)]
        values += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(values, dtype=torch.float64)


def cross_decoder(
    hidden: tuple[Tensor, tuple[int, ...]],
    visible: list[tuple[Tensor, tuple[int, ...]]],
    state: dict[str, Tensor],
    depth: int,
    heads: int,
) -> Tensor:
    """Prediction ``(P,)`` of one hidden patch from its token and the encoder's real tokens, each with its place."""
    token, place = hidden
    seen = [_linear(x, state, "embed_visible") + _position(at, len(token)) for x, at in visible]
    trunk = {name.removeprefix("trunk."): value for name, value in state.items() if name.startswith("trunk.")}
    out = cross_trunk(token + _position(place, len(token)), seen, trunk, depth, heads)
    return _linear(_norm(out, state, "norm"), state, "head")
