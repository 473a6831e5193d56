"""A linear classifier fitted to convergence on frozen features, its regularisation chosen within the train split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

if TYPE_CHECKING:  # scikit-learn is imported where a probe is fitted, as every command would wait for it otherwise
    from sklearn.pipeline import Pipeline

Features = NDArray[np.float32]
Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Probe:
    """Outcome of a linear probe.

    Args:
        score: Accuracy (one label a clip) or mean average precision (several) on the test split, in [0, 1].
        inverse_regularisation: The C that was chosen.
    """

    score: float
    inverse_regularisation: float


def linear_probe(
    train: tuple[Features, Labels],
    test: tuple[Features, Labels],
    *,
    inverse_regularisations: list[float],
    seed: int = 0,
) -> Probe:
    """Fit on ``train``, score on ``test``.

    Features are standardised by the train split. Each C is tried on four fifths of it and scored on the held-out fifth
    (stratified where every class has enough clips); the best is fitted again on all of it. The test split is only
    scored, once.

    Args:
        train: Features (n, D) and labels: class ids (n,), or 0/1 indicators (n, K) of several labels a clip.
        test: The same for the test split.
        inverse_regularisations: Values of C to choose from; the smaller, the stronger the L2 penalty.
        seed: Draws the held-out part.

    Raises:
        ValueError: If a split is empty or the train split holds fewer than two classes.
    """
    from sklearn.model_selection import train_test_split

    features, labels = train
    if len(features) < 2 or len(test[0]) == 0:
        raise ValueError(f"a linear probe needs clips to fit and to test, got {len(features)} and {len(test[0])}")
    if labels.ndim == 1 and len(np.unique(labels)) < 2:
        raise ValueError("a linear probe needs at least 2 classes in the train split, got 1")
    held = max(1, len(features) // 5)
    stratify = None
    if labels.ndim == 1:
        counts = np.unique(labels, return_counts=True)[1]
        stratify = labels if counts.min() >= 2 and held >= len(counts) else None
    fit_x, held_x, fit_y, held_y = train_test_split(
        features, labels, test_size=held, random_state=seed, stratify=stratify
    )
    # disable=None: no bar where the output is no terminal, as it would stand before the score in a log file
    choices = tqdm(sorted(set(inverse_regularisations)), desc="regularisation", unit="fit", leave=False, disable=None)
    scores = {c: _score(_fit(fit_x, fit_y, c), held_x, held_y) for c in choices}
    best = max(scores, key=lambda c: scores[c])
    return Probe(_score(_fit(features, labels, best), *test), best)


def _fit(features: Features, labels: Labels, c: float) -> Pipeline:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(C=c, max_iter=5000)
    if labels.ndim == 2:
        classifier = OneVsRestClassifier(classifier)
    return make_pipeline(StandardScaler(), classifier).fit(features, labels)


def _score(model: Pipeline, features: Features, labels: Labels) -> float:
    from sklearn.metrics import accuracy_score, average_precision_score

    if labels.ndim == 1:
        return float(accuracy_score(labels, model.predict(features)))
    present = labels.any(axis=0)
    return float(
        average_precision_score(labels[:, present], model.predict_proba(features)[:, present], average="macro")
    )
