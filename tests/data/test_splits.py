"""Classes, held-out files and few labels."""

from __future__ import annotations

from collections import Counter

import pytest

from diffmavil.data import Clip
from diffmavil.data.splits import class_names, hold_out, thin

CLIPS = [Clip(f"{k // 3}.mp4", float(k % 3), labels=("abc"[k % 3],)) for k in range(90)]
ALL = list(range(90))


def test_class_names() -> None:
    assert class_names(CLIPS, multi_label=False) == ["a", "b", "c"]
    assert class_names([Clip("x.mp4"), Clip("y.mp4")], multi_label=False) == []
    mixed = [Clip("x.mp4"), Clip("y.mp4", labels=("b", "a"))]
    assert class_names(mixed, multi_label=True) == ["a", "b"]
    with pytest.raises(ValueError, match="x.mp4: a clip must have one label unless multi_label is true, got 0"):
        class_names(mixed, multi_label=False)
    with pytest.raises(ValueError, match="got none of 'd'"):
        class_names([*CLIPS, Clip("z.mp4", split="test", labels=("d",))], multi_label=False)
    assert class_names([Clip("z.mp4", split="test", labels=("d",))], multi_label=False) == ["d"]


def test_held_out_files_are_on_one_side_only() -> None:
    kept, held = hold_out(CLIPS, ALL, 0.2, seed=0)
    assert sorted(kept + held) == ALL and len(held) == 18
    assert not {CLIPS[k].path for k in kept} & {CLIPS[k].path for k in held}
    assert hold_out(CLIPS, ALL, 0.2, seed=0) == (kept, held) != hold_out(CLIPS, ALL, 0.2, seed=1)
    assert hold_out(CLIPS, ALL[:3], 0.5, seed=0) == (ALL[:3], [])  # one file cannot be divided
    assert [len(part) for part in hold_out(CLIPS, ALL[:6], 0.01, seed=0)] == [3, 3]


def test_few_labels() -> None:
    few = thin(CLIPS, ALL, 5, seed=0)
    assert Counter(CLIPS[k].labels for k in few) == {("a",): 5, ("b",): 5, ("c",): 5}
    assert few == sorted(few) == thin(CLIPS, ALL, 5, seed=0) != thin(CLIPS, ALL, 5, seed=1)
    assert thin(CLIPS, ALL, 1000, seed=0) == ALL


def test_few_labels_of_clips_with_several() -> None:
    clips = [Clip("x.mp4", labels=("a", "b"))] * 20 + [Clip("y.mp4", labels=("c",))] * 20 + [Clip("z.mp4")] * 5
    few = thin(clips, range(len(clips)), 4, seed=0)
    assert Counter(label for k in few for label in clips[k].labels) == {"a": 4, "b": 4, "c": 4}
