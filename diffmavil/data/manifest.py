"""A CSV file that lists clips."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from diffmavil.data.clips import SPLITS, Clip, ClipSource

Row = dict[str, str]
"""One line of a table: column name to stripped cell."""


def read_table(path: Path, columns: list[str]) -> Iterator[tuple[int, Row]]:
    """Read a CSV file with a header, row by row.

    Args:
        path: The file.
        columns: Columns that it must have.

    Yields:
        Line number and cells of a row.

    Raises:
        ValueError: If the file cannot be read, has no rows, lacks one of the columns, or is malformed (with the line).
    """
    line, is_empty = 0, True
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            names = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            for column in columns:
                if column not in names:
                    there_are = ", ".join(names) or "an empty file"
                    raise ValueError(f"{path}: there must be a column {column!r}, got {there_are}")
            line = reader.line_num
            for row in reader:
                if None in row:
                    raise csv.Error(f"there must be {len(names)} cells, got {len(names) + len(row[None])}")
                if None in row.values():
                    got = sum(cell is not None for cell in row.values())
                    raise csv.Error(f"there must be {len(names)} cells, got {got}")
                if "\0" in "".join(row.values()):
                    raise csv.Error("a cell holds a NUL byte")
                yield reader.line_num, {name: row[name].strip() for name in names}
                line, is_empty = reader.line_num, False
    except OSError as error:
        raise ValueError(f"{path}: the table cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {_undecodable_line(path)}: the table must be UTF-8 text") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {line + 1}: the row is malformed ({error})") from error
    if is_empty:
        raise ValueError(f"{path}: the table must have at least one row, got only its header")


def _undecodable_line(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    number = 1
    with path.open("rb") as file:
        for line in file:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
            number += 1
    return number


class ManifestSource(ClipSource):
    """The clips that a CSV file lists.

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
        return (self._clip(line, row) for line, row in read_table(self.path, columns))

    def _clip(self, line: int, row: Row) -> Clip:
        if not row["path"]:
            raise ValueError(f"{self.path}, line {line}: path must not be empty")
        split = row.get("split", "train")
        if split not in SPLITS:
            raise ValueError(f"{self.path}, line {line}: split must be one of {', '.join(SPLITS)}, got {split!r}")
        start_s, end_s = self._seconds(line, row, "start_s"), self._seconds(line, row, "end_s")
        if end_s is not None and end_s <= (start_s or 0.0):
            raise ValueError(f"{self.path}, line {line}: end_s must be after start_s, got {end_s} and {start_s or 0.0}")
        cell = "" if self.label_column is None else row[self.label_column]
        labels = tuple(dict.fromkeys(label.strip() for label in cell.split(self.label_separator) if label.strip()))
        return Clip(str(self.media_root / row["path"]), start_s, end_s, split, labels)

    def _seconds(self, line: int, row: Row, column: str) -> float | None:
        cell = row.get(column, "")
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError:
            value = -1.0
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"{self.path}, line {line}: {column} must be seconds of at least 0, got {cell!r}")
        return value
