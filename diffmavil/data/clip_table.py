"""Clips in columns: millions of them in little memory, which data workers share."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from diffmavil.data.clips import SPLITS, Clip

NO_NUMBER: Final = -1
"""What stands for no fold, no row and no block in a column."""


class ClipTable(Sequence[Clip]):
    """A list of clips, made into objects only when they are asked for.

    A Python object's memory is written to whenever it is looked at (its reference count), so that each forked worker
    comes to have a copy of its own; arrays stay shared.

    Args:
        clips: The clips; taken one at a time.
        classes: Names of the classes, in the order of their ids; ``None`` for the sorted labels of the clips.

    Raises:
        ValueError: If a clip has a label that is not in ``classes``.
    """

    def __init__(self, clips: Iterable[Clip], classes: Sequence[str] | None = None) -> None:
        ids = {name: k for k, name in enumerate(classes or ())}
        paths, ends = bytearray(), array("q", [0])
        start_s, end_s = array("d"), array("d")
        splits, folds, rows, blocks = array("b"), array("q"), array("q"), array("q")
        labels, label_ends = array("i"), array("q", [0])
        split_ids = {name: k for k, name in enumerate(SPLITS)}
        for clip in clips:
            paths += clip.path.encode("utf-8", "surrogateescape")
            ends.append(len(paths))
            start_s.append(np.nan if clip.start_s is None else clip.start_s)
            end_s.append(np.nan if clip.end_s is None else clip.end_s)
            splits.append(split_ids[clip.split])
            folds.append(NO_NUMBER if clip.fold is None else clip.fold)
            rows.append(NO_NUMBER if clip.row is None else clip.row)
            blocks.append(NO_NUMBER if clip.block is None else clip.block)
            for label in clip.labels:
                if classes is not None and label not in ids:
                    raise ValueError(f"{clip.path}: label must be one of the {len(classes)} classes, got {label!r}")
                labels.append(ids.setdefault(label, len(ids)))
            label_ends.append(len(labels))
        self._paths, self._ends = np.frombuffer(bytes(paths), np.uint8), _frozen(ends)
        self._start_s, self._end_s = _frozen(start_s), _frozen(end_s)
        self._folds, self._rows, self._blocks = _frozen(folds), _frozen(rows), _frozen(blocks)
        self._splits = _frozen(splits)
        self.classes = list(ids) if classes is not None else sorted(ids)
        """Names of the classes, by class id."""
        by_name = {name: k for k, name in enumerate(self.classes)}
        renumber = np.array([by_name[name] for name in ids], np.int32)
        self._labels, self._label_ends = renumber[_frozen(labels)] if ids else _frozen(labels), _frozen(label_ends)

    def __len__(self) -> int:
        return len(self._splits)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        fold, row, block = int(self._folds[k]), int(self._rows[k]), int(self._blocks[k])
        return Clip(
            path=self.path(k),
            start_s=_number(self._start_s[k]),
            end_s=_number(self._end_s[k]),
            split=SPLITS[self._splits[k]],
            labels=tuple(self.classes[label] for label in self.class_ids(k)),
            fold=None if fold == NO_NUMBER else fold,
            row=None if row == NO_NUMBER else row,
            block=None if block == NO_NUMBER else block,
        )

    def __iter__(self) -> Iterator[Clip]:
        return (self[k] for k in range(len(self)))

    def path(self, index: SupportsIndex) -> str:
        """Path of a clip."""
        start, end = self._ends[index], self._ends[operator.index(index) + 1]
        return bytes(self._paths[start:end]).decode("utf-8", "surrogateescape")

    def class_ids(self, index: SupportsIndex) -> tuple[int, ...]:
        """Class ids of a clip's labels."""
        start, end = self._label_ends[index], self._label_ends[operator.index(index) + 1]
        return tuple(self._labels[start:end].tolist())

    def in_split(self, split: str) -> npt.NDArray[np.int64]:
        """Positions of the clips of a split, in order."""
        return np.flatnonzero(self._splits == SPLITS.index(split))

    @property
    def has_folds(self) -> bool:
        """Whether any clip carries the number of a fold."""
        return bool((self._folds != NO_NUMBER).any())

    @property
    def blocks(self) -> npt.NDArray[np.int64] | None:
        """The block that each clip lies in; ``None`` where a clip lies in none."""
        return None if (self._blocks == NO_NUMBER).any() else self._blocks

    @property
    def num_labels(self) -> npt.NDArray[np.int64]:
        """How many labels each clip has."""
        return np.diff(self._label_ends)

    def class_counts(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many of some clips have each class."""
        chosen = np.zeros(len(self), bool)
        chosen[indices] = True
        return np.bincount(self._labels[np.repeat(chosen, self.num_labels)], minlength=len(self.classes))

    def inverse_frequencies(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """A weight for each of some clips: the sum over its labels of one over the number of those clips with it."""
        weights = 1.0 / np.maximum(self.class_counts(indices), 1)
        sums = np.concatenate([[0.0], np.cumsum(weights[self._labels])])[self._label_ends]
        of_all: npt.NDArray[np.float64] = np.diff(sums)
        return of_all[indices]


def _frozen(column: array[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(column, column.typecode)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
