"""Symmetric InfoNCE (arXiv:1807.03748, equation 4) in loops over pairs."""

from __future__ import annotations

import math


def _cosine(u: list[float], v: list[float]) -> float:
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    return dot / (math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v)))


def info_nce(x: list[list[float]], y: list[list[float]], temperature: float) -> float:
    """Mean over both directions of -log softmax of the own pair."""
    total = 0.0
    for left, right in ((x, y), (y, x)):
        for i in range(len(left)):
            scores = [math.exp(_cosine(left[i], other) / temperature) for other in right]
            total += -math.log(scores[i] / sum(scores))
    return total / (2 * len(x))
