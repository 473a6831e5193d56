"""CSV files, read row by row; what is wrong with one is said with its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}

Row = dict[str, str]
"""One line of a table: column name to stripped cell."""


def read_table(path: Path, columns: list[str], *, filled: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """Read a CSV file with a header, row by row.

    Its cells are separated by commas, or by semicolons or tabs where only these part the columns' names.

    Args:
        path: The file.
        columns: Columns that it must have.
        filled: Those whose cells may not be empty.

    Yields:
        Line number and cells of a row.

    Raises:
        ValueError: If the file cannot be read, has no rows, lacks one of the columns or has one twice, or is malformed
            (with the line).
    """
    separator = max(_SEPARATORS, key=lambda each: _num_named(path, each, columns))  # of several the first: commas
    rows = _rows(path, separator)
    names = [name.strip() for name in next(rows, (1, []))[1]]
    for column in columns:
        if column not in names:
            raise ValueError(f"{path}: there must be a column {column!r}, got {', '.join(names) or 'an empty file'}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: each column must have a name of its own, got {', '.join(names)}")
    is_empty = True
    for line, row in rows:
        _check_cells(path, line, row, len(names), separator)
        cells = {name: cell.strip() for name, cell in zip(names, row, strict=True)}
        for name in filled:
            if not cells[name]:
                raise ValueError(f"{path}, line {line}: {name} must not be empty")
        yield line, cells
        is_empty = False
    if is_empty:
        raise ValueError(f"{path}: the table must have at least one row, got only its header")


def read_rows(path: Path, num_cells: int) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file without a header and without empty cells; lines that begin with ``#`` are comments.

    Args:
        path: The file.
        num_cells: Cells that each row must have.

    Yields:
        Line number and cells.

    Raises:
        ValueError: If the file cannot be read or is malformed (with the line).
    """
    for line, row in _rows(path):
        if not row[0].startswith("#"):
            _check_cells(path, line, row, num_cells)
            if "" in row:
                raise ValueError(f"{path}, line {line}: a cell must not be empty, got {row}")
            yield line, row


def seconds(path: Path, line: int, name: str, cell: str) -> float:
    """A cell that holds seconds.

    Args:
        path: The table.
        line: Its line.
        name: What the cell stands for.
        cell: What it holds.

    Raises:
        ValueError: If it does not.
    """
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"{path}, line {line}: {name} must be seconds of at least 0, got {cell!r}")
    return value


def _num_named(path: Path, separator: str, columns: list[str]) -> int:
    """How many of some columns a table's header has, if its cells are separated so."""
    try:
        header = next(_rows(path, separator), (1, []))[1]
    except ValueError:  # the file cannot be read, or not so
        return 0
    return len({name.strip() for name in header} & set(columns))


def _rows(path: Path, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, and the lines in which they begin."""
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            for row in reader:
                if "\0" in "".join(row):
                    raise csv.Error("a cell holds a NUL byte")
                if row:
                    yield line, row
                line = reader.line_num + 1
    except OSError as error:
        raise ValueError(f"{path}: the table cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {_undecodable_line(path)}: the table must be UTF-8 text") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: the row is malformed ({error})") from error


def _check_cells(path: Path, line: int, row: list[str], count: int, separator: str = ",") -> None:
    if len(row) != count:
        found = [name for each, name in _SEPARATORS.items() if len(row) == 1 and each in row[0]]
        but = f": it has {' and '.join(found)}, where there must be {_SEPARATORS[separator]}" if found else ""
        raise ValueError(f"{path}, line {line}: the row must have {count} cells, got {len(row)}{but}")


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
