"""A CSV file that lists clips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from diffmavil.data.clips import SPLITS, Clip, ClipSource
from diffmavil.data.tables import Row, read_table, seconds


class ManifestSource(ClipSource):
    """The clips that a CSV file lists; its cells are separated by commas, semicolons or tabs.

    Columns: ``path``, and if wanted ``start_s`` and ``end_s`` (seconds; empty cell: the file's start or end),
    ``split`` (``train``, ``val`` or ``test``; without the column all are ``train``) and any label columns.

    Args:
        path: The CSV file.
        media_root: Folder that relative paths start from; by default the CSV file's.
        label_column: Column that holds the labels; ``None`` for clips without labels.
        label_separator: What stands between several labels in one cell.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        media_root: str | Path | None = None,
        label_column: str | None = None,
        label_separator: str = ";",
    ) -> None:
        if not label_separator:
            raise ValueError("label_separator must not be empty, got ''")
        self.path = Path(path)
        self.media_root = self.path.parent if media_root is None else Path(media_root)
        self.label_column = label_column
        self.label_separator = label_separator

    def clips(self) -> Iterator[Clip]:
        """List the table's clips, in its order.

        Raises:
            ValueError: If the table cannot be read or lacks a column, or if a cell is not what it must be.
        """
        columns = ["path"] if self.label_column is None else ["path", self.label_column]
        return (self._clip(line, row) for line, row in read_table(self.path, columns, filled=["path"]))

    def _clip(self, line: int, row: Row) -> Clip:
        split = row.get("split", "train")
        if split not in SPLITS:
            raise ValueError(f"{self.path}, line {line}: split must be one of {', '.join(SPLITS)}, got {split!r}")
        start_s, end_s = self._seconds(line, row, "start_s"), self._seconds(line, row, "end_s")
        if end_s is not None and end_s <= (start_s or 0.0):
            raise ValueError(f"{self.path}, line {line}: end_s must be after start_s, got {end_s} and {start_s or 0.0}")
        cell = "" if self.label_column is None else row[self.label_column]
        labels = tuple(dict.fromkeys(label.strip() for label in cell.split(self.label_separator) if label.strip()))
        return Clip(os.path.join(self.media_root, row["path"]), start_s, end_s, split, labels)

    def _seconds(self, line: int, row: Row, column: str) -> float | None:
        cell = row.get(column, "")
        return seconds(self.path, line, column, cell) if cell else None
