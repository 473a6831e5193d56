"""Labels, held-out files and few labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from diffmavil.data import Clip
from diffmavil.data.clip_table import ClipTable
from diffmavil.data.splits import check_labels, hold_out, thin

CLIPS = [Clip(f"{k // 3}.mp4", float(k % 3), labels=("abc"[k % 3],)) for k in range(90)]
TABLE = ClipTable(CLIPS)
ALL = np.arange(90)


def check(clips: list[Clip], *, multi_label: bool = False, all_in_train: bool = True) -> None:
    check_labels(ClipTable(clips), multi_label=multi_label, all_in_train=all_in_train)


def test_labels_that_a_classifier_cannot_learn_are_refused() -> None:
    check(CLIPS)
    check([Clip("x.mp4"), Clip("y.mp4")])
    mixed = [Clip("x.mp4"), Clip("y.mp4", labels=("b", "a"))]
    check(mixed, multi_label=True)
    with pytest.raises(ValueError, match="x.mp4: a clip must have one label unless multi_label is true, got 0"):
        check(mixed)
    only_tested = Clip("z.mp4", split="test", labels=("d",))
    with pytest.raises(ValueError, match="got none of 'd'"):
        check([*CLIPS, only_tested])
    check([*CLIPS, only_tested], all_in_train=False)
    check([only_tested])


def test_held_out_files_are_on_one_side_only() -> None:
    kept, held = hold_out(TABLE, ALL, 0.2, seed=0)
    assert sorted([*kept, *held]) == ALL.tolist() and len(held) == 18
    assert not {CLIPS[k].path for k in kept} & {CLIPS[k].path for k in held}
    assert (
        held.tolist() == hold_out(TABLE, ALL, 0.2, seed=0)[1].tolist() != hold_out(TABLE, ALL, 0.2, seed=1)[1].tolist()
    )
    assert [part.tolist() for part in hold_out(TABLE, ALL[:3], 0.5, seed=0)] == [[0, 1, 2], []]  # one file
    assert [len(part) for part in hold_out(TABLE, ALL[:6], 0.01, seed=0)] == [3, 3]


def test_few_labels() -> None:
    few = thin(TABLE, ALL, 5, seed=0).tolist()
    assert Counter(CLIPS[k].labels for k in few) == {("a",): 5, ("b",): 5, ("c",): 5}
    assert few == sorted(few) == thin(TABLE, ALL, 5, seed=0).tolist() != thin(TABLE, ALL, 5, seed=1).tolist()
    assert thin(TABLE, ALL, 1000, seed=0).tolist() == ALL.tolist()


def test_few_labels_of_clips_with_several() -> None:
    clips = [Clip("x.mp4", labels=("a", "b"))] * 20 + [Clip("y.mp4", labels=("c",))] * 20 + [Clip("z.mp4")] * 5
    few = thin(ClipTable(clips), np.arange(len(clips)), 4, seed=0)
    assert Counter(label for k in few for label in clips[k].labels) == {"a": 4, "b": 4, "c": 4}
