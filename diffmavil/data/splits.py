"""Which classes there are, and which clips are held out or thinned away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from diffmavil.data.clips import Clip


def class_names(clips: Sequence[Clip], *, multi_label: bool) -> list[str]:
    """Sorted names of the classes; empty for clips without labels.

    Args:
        clips: All clips of a data set.
        multi_label: Whether a clip may have none or several labels.

    Raises:
        ValueError: If a clip has none or several labels but may not, or if the train split lacks a class.
    """
    names = sorted({label for clip in clips for label in clip.labels})
    if names and not multi_label:
        for clip in clips:
            if len(clip.labels) != 1:
                rule = "a clip must have one label unless multi_label is true"
                raise ValueError(f"{clip.path}: {rule}, got {len(clip.labels)}")
    train = [clip for clip in clips if clip.split == "train"]
    missing = set(names) - {label for clip in train for label in clip.labels}
    if train and missing:
        raise ValueError(f"every class must have clips in the train split, got none of {sorted(missing)[0]!r}")
    return names


def hold_out(clips: Sequence[Clip], indices: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Hold out part of the files, with all of their clips, so that no file is on both sides.

    Args:
        clips: All clips.
        indices: Positions of those to divide.
        fraction: Part of the files to hold out, in [0, 1); at least one file, if there are two.
        seed: Seed of the choice.

    Returns:
        Positions of the clips kept, and of those held out.
    """
    paths = sorted({clips[index].path for index in indices})
    count = min(max(1, round(fraction * len(paths))), len(paths) - 1)
    held = {paths[k] for k in np.random.default_rng((seed, 1)).permutation(len(paths))[:count]}
    kept = [index for index in indices if clips[index].path not in held]
    return kept, [index for index in indices if clips[index].path in held]


def thin(clips: Sequence[Clip], indices: Sequence[int], labels_per_class: int, seed: int) -> list[int]:
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
    counts: Counter[str] = Counter()
    kept = set()
    for k in np.random.default_rng((seed, 2)).permutation(len(indices)):
        labels = clips[indices[k]].labels
        if any(counts[label] < labels_per_class for label in labels):
            counts.update(labels)
            kept.add(indices[k])
    return [index for index in indices if index in kept]
