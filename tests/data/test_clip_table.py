"""Clips in columns."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from diffmavil.data import Clip
from diffmavil.data.clip_table import ClipTable

CLIPS = [
    Clip("a.mp4"),
    Clip("M\u00fcll/\udce4 b.mp4", 1.5, 3.25, "test", ("dog", "bark"), 4),
    Clip("c.wav", None, 2.0, "val", ("bark",), 0, 17),
    Clip("", 0.0, None, "train", ("cat",)),
]


@pytest.mark.parametrize("copy", [lambda table: table, lambda table: pickle.loads(pickle.dumps(table))])
def test_gives_back_what_was_put_in(copy: type) -> None:
    table = copy(ClipTable(clip for clip in CLIPS))
    assert list(table) == CLIPS and len(table) == 4 and table[1:3] == CLIPS[1:3] and table[-1] == CLIPS[-1]
    assert table.classes == ["bark", "cat", "dog"]
    assert [table.class_ids(k) for k in range(4)] == [(), (2, 0), (0,), (1,)]
    assert [table.path(k) for k in range(4)] == [clip.path for clip in CLIPS]
    assert [table.in_split(split).tolist() for split in ("train", "val", "test")] == [[0, 3], [2], [1]]
    assert table.num_labels.tolist() == [0, 2, 1, 1] and table.has_folds
    with pytest.raises(IndexError):
        table[4]


def test_named_classes_keep_their_order_and_are_all_there_are() -> None:
    table = ClipTable(CLIPS, ["dog", "cow", "bark", "cat"])
    assert table.classes == ["dog", "cow", "bark", "cat"] and table.class_ids(1) == (0, 2)
    assert list(table) == CLIPS
    with pytest.raises(ValueError, match="label must be one of the 2 classes, got 'cat'"):
        ClipTable(CLIPS, ["dog", "bark"])


def test_weights_are_sums_of_inverse_frequencies() -> None:
    labels = [("a",), ("a", "b"), (), ("b", "c"), ("a",)]
    table = ClipTable([Clip("x", labels=row) for row in labels])
    chosen = np.array([0, 1, 2, 3])
    assert table.class_counts(chosen).tolist() == [2, 2, 1]
    assert table.inverse_frequencies(chosen).tolist() == [0.5, 1.0, 0.0, 1.5]


def test_no_clips() -> None:
    table = ClipTable([])
    assert list(table) == [] and table.classes == [] and not table.has_folds
