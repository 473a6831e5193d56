"""The linear classifier of the probe, on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from diffmavil.probing import linear_probe


def _clusters(rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 4
    centres = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    return (centres[labels] + noise * rng.standard_normal((rows, 2))).astype(np.float32), labels.astype(np.int64)


def test_finds_what_is_linearly_there_and_nothing_where_nothing_is() -> None:
    choices = [1e-3, 1e-1, 10.0]
    assert linear_probe(_clusters(100, 0.1, 0), _clusters(100, 0.1, 1), inverse_regularisations=choices).score == 1.0
    train, test = _clusters(400, 0.1, 0), _clusters(400, 0.1, 1)
    rng = np.random.default_rng(2)
    noise = (rng.permutation(train[0]), train[1])
    assert linear_probe(noise, test, inverse_regularisations=choices).score == pytest.approx(0.25, abs=0.1)


def test_regularisation_is_chosen_without_the_test_split() -> None:
    """Random test labels change the score, but not the choice."""
    rng = np.random.default_rng(0)
    train = (rng.standard_normal((60, 40)).astype(np.float32), np.arange(60) % 3)
    train[0][:, 0] += 2 * train[1]
    tests = [(rng.standard_normal((50, 40)).astype(np.float32), rng.integers(0, 3, 50)) for _ in range(4)]
    probes = [linear_probe(train, test, inverse_regularisations=[1e-4, 1e-2, 1.0, 100.0]) for test in tests]
    assert len({probe.inverse_regularisation for probe in probes}) == 1
    assert len({probe.score for probe in probes}) > 1


def test_several_labels_a_clip_are_scored_by_mean_average_precision() -> None:
    features, labels = _clusters(200, 0.2, 0)
    several = np.stack([labels < 2, labels % 2 == 0], axis=1).astype(np.float32)
    probe = linear_probe((features, several), (features, several), inverse_regularisations=[1.0])
    assert probe.score > 0.99


def test_refuses_a_split_without_clips_or_with_one_class() -> None:
    features, labels = _clusters(20, 0.1, 0)
    with pytest.raises(ValueError, match="needs clips to fit and to test, got 20 and 0"):
        linear_probe((features, labels), (features[:0], labels[:0]), inverse_regularisations=[1.0])
    with pytest.raises(ValueError, match="needs at least 2 classes in the train split, got 1"):
        linear_probe((features, 0 * labels), (features, labels), inverse_regularisations=[1.0])
