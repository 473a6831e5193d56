"""Which labels serve, and which clips are held out or thinned away."""

from __future__ import annotations

from collections import Counter

import numpy as np

from diffmavil.data.clip_table import ClipTable
from diffmavil.data.order import Positions


def check_labels(clips: ClipTable, *, multi_label: bool, all_in_train: bool) -> None:
    """Refuse labels that a classifier cannot be trained on.

    Args:
        clips: All clips of a data set.
        multi_label: Whether a clip may have none or several labels.
        all_in_train: Whether the train split must have every class.

    Raises:
        ValueError: If a clip has none or several labels but may not, or if the train split lacks a class.
    """
    if clips.classes and not multi_label and (wrong := np.flatnonzero(clips.num_labels != 1)).size:
        rule = "a clip must have one label unless multi_label is true"
        clip = clips[wrong[0]]
        raise ValueError(f"{clip.path}: {rule}, got {len(clip.labels)}")
    train = clips.in_split("train")
    if all_in_train and len(train) and (missing := np.flatnonzero(clips.class_counts(train) == 0)).size:
        name = clips.classes[missing[0]]
        raise ValueError(f"every class must have clips in the train split, got none of {name!r}")


def hold_out(clips: ClipTable, indices: Positions, fraction: float, seed: int) -> tuple[Positions, Positions]:
    """Hold out part of the files, with all of their clips, so that no file is on both sides.

    Args:
        clips: All clips.
        indices: Positions of those to divide.
        fraction: Part of the files to hold out, in [0, 1); at least one file, if there are two.
        seed: Seed of the choice.

    Returns:
        Positions of the clips kept, and of those held out.
    """
    paths = [clips.path(index) for index in indices.tolist()]
    files = {path: file for file, path in enumerate(sorted(set(paths)))}  # an array of text is as wide as its longest
    count = min(max(1, round(fraction * len(files))), len(files) - 1)
    file_of = np.fromiter((files[path] for path in paths), np.int64, len(paths))
    held = np.isin(file_of, np.random.default_rng((seed, 1)).permutation(len(files))[:count])
    return indices[~held], indices[held]


def thin(clips: ClipTable, indices: Positions, labels_per_class: int, seed: int) -> Positions:
    """Keep that many clips of each class (all of a class that has fewer), drawn at random.

    Of clips with several labels, those are kept that bring one of their classes closer to its number.

    Args:
        clips: All clips.
        indices: Positions of those to choose from.
        labels_per_class: Clips of a class.
        seed: Seed of the choice.

    Returns:
        Positions of the clips kept, in the order of ``indices``.
    """
    counts: Counter[int] = Counter()
    kept = np.zeros(len(indices), bool)
    for k in np.random.default_rng((seed, 2)).permutation(len(indices)):
        labels = clips.class_ids(indices[k])
        if any(counts[label] < labels_per_class for label in labels):
            counts.update(labels)
            kept[k] = True
    return indices[kept]
