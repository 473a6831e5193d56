"""What preparing kept and what it left out: ``rejected.csv``, ``coverage.csv`` and a few lines."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from diffmavil.data.clips import SPLITS, Clip
from diffmavil.data.shards.sidecar import Sidecar
from diffmavil.data.shards.writer import write_atomically

_ALL = ""
"""The class of the row that counts all clips of a split."""


class Report:
    """Counts what was listed and what was kept.

    Args:
        clips: All clips of the source whose files are there.
        missing: How many others its tables list, by split and class; under the class ``""``, all of a split.
    """

    def __init__(self, clips: Iterable[Clip], missing: Counter[tuple[str, str]]) -> None:
        self.missing = missing
        self.listed = Counter(missing)
        self.kept: Counter[tuple[str, str]] = Counter()
        self.reasons: Counter[str] = Counter()
        self.tar_bytes = 0
        self._rejected: list[dict[str, Any]] = []
        for clip in clips:
            self.listed.update((clip.split, label) for label in (_ALL, *clip.labels))

    def counted(self, sidecars: Iterable[Sidecar]) -> Iterator[Sidecar]:
        """Count what is in each shard on its way by."""
        for sidecar in sidecars:
            self.tar_bytes += sidecar.tar_bytes
            for clip in sidecar.clips:
                self.kept.update((clip["split"], label) for label in (_ALL, *clip["labels"]))
            self._rejected += sidecar.rejected
            self.reasons.update(rejection["reason"] for rejection in sidecar.rejected)
            yield sidecar

    @property
    def num_listed(self) -> int:
        """Clips of the source."""
        return sum(self.listed[split, _ALL] for split in SPLITS)

    @property
    def num_kept(self) -> int:
        """Clips in the shards."""
        return sum(self.kept[split, _ALL] for split in SPLITS)

    def write(self, folder: Path) -> None:
        """Write ``rejected.csv`` and ``coverage.csv``.

        Raises:
            OSError: If they cannot be written.
        """
        columns = ["path", "start_s", "end_s", "reason", "detail"]
        rejected = [[rejection[column] for column in columns] for rejection in self._rejected]
        _write_csv(folder / "rejected.csv", [columns, *rejected])
        coverage = [
            [*key, self.listed[key], self.missing[key], self.kept[key]] for key in sorted(self.listed, key=_place)
        ]
        _write_csv(folder / "coverage.csv", [["split", "class", "listed", "missing", "kept"], *coverage])

    def lines(self, folder: Path) -> list[str]:
        """The summary.

        Args:
            folder: Where the files are, which it names.
        """
        missing = sum(self.missing[split, _ALL] for split in SPLITS)
        rejected = self.num_listed - self.num_kept - missing
        lines = [f"kept {self.num_kept} of {self.num_listed} clips, {self.tar_bytes / 1e9:.2f} GB"]
        if missing:
            lines.append(f"no file for {missing} ({folder / 'coverage.csv'})")
        if rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
            lines.append(f"rejected {rejected}: {reasons} ({folder / 'rejected.csv'})")
        for split in SPLITS:
            if listed := self.listed[split, _ALL]:
                lines.append(f"  {split:<6}{self.kept[split, _ALL]} of {listed} clips{self._classes(split)}")
        return lines

    def _classes(self, split: str) -> str:
        """How well the classes of a split are covered."""
        shares = {name: self.kept[s, name] / n for (s, name), n in self.listed.items() if s == split and name != _ALL}
        if not shares:
            return ""
        least = min(sorted(shares), key=shares.__getitem__)
        if shares[least] == 1.0:
            return f", all of each of {len(shares)} classes"
        return (
            f", of {len(shares)} classes least of {least!r}: {self.kept[split, least]} of {self.listed[split, least]}"
        )


def _place(key: tuple[str, str]) -> tuple[int, str]:
    return SPLITS.index(key[0]), key[1]


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    write_atomically(path, file.getvalue().encode("utf-8", "surrogateescape"))
