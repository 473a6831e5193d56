"""The folder layout of ESC-50 (and of its parts, such as ESC-10).

Source: Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015.
"""

from __future__ import annotations

from pathlib import Path

from diffmavil.checks import check_number
from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.tables import read_table


class Esc50Source(ClipSource):
    """Clips of a folder with ``meta/esc50.csv`` (columns filename, fold, category) and ``audio/``.

    Args:
        root: The folder.
        fold: The fold to test on; the others are for training. ``None``: all clips are for training, and each
            carries its fold (the linear probe then cross-validates over the folds).
    """

    def __init__(self, *, root: str | Path, fold: int | None = None) -> None:
        check_number("fold", fold, at_least=0, limit=1_000_000, optional=True)
        self.root = Path(root)
        self.fold = fold

    def clips(self) -> list[Clip]:
        """List the clips in the table's order; a clip's label is its category.

        Raises:
            ValueError: If the table cannot be read or lacks a column, or if no clip is of the wanted fold.
        """
        table = self.root / "meta" / "esc50.csv"
        columns = ["filename", "fold", "category"]
        clips = []
        for line, row in read_table(table, columns, filled=columns):
            try:
                fold = int(row["fold"])
            except ValueError:
                raise ValueError(f"{table}, line {line}: fold must be a whole number, got {row['fold']!r}") from None
            path, split = str(self.root / "audio" / row["filename"]), "test" if fold == self.fold else "train"
            clips.append(Clip(path, split=split, labels=(row["category"],), fold=fold))
        folds = sorted({clip.fold for clip in clips if clip.fold is not None})
        if self.fold is not None and self.fold not in folds:
            raise ValueError(f"fold must be one of {', '.join(map(str, folds))}, got {self.fold}")
        return clips
