"""AudioSet: ten-second segments of YouTube videos with several of 527 sounds each.

Source: Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from diffmavil.data.json_files import read_json
from diffmavil.data.tables import read_rows, read_table, seconds
from diffmavil.data.youtube import Segment, YouTubeSource


class AudioSetSource(YouTubeSource):
    """AudioSet by its official tables, as far as its files are there; the labels are the classes' display names.

    ``root`` holds ``balanced_train_segments.csv``, ``unbalanced_train_segments.csv``, ``eval_segments.csv`` (the test
    split), and the names of the classes: ``class_labels_indices.csv`` (all 527, in their usual order) or
    ``ontology.json`` (the classes are then those that the clips have). A clip has several labels: set
    ``multi_label: true`` in the data. For the names of the files see :class:`~diffmavil.data.youtube.YouTubeSource`.

    Args:
        root: Folder of the tables.
        train: Tables of the train split: ``[balanced]`` is AudioSet-20K, ``[balanced, unbalanced]`` AudioSet-2M.
        media_root: Folder of the files, with any folders in it; ``None``: ``root``.
        cut: Whether a file that is named by the id alone holds the segment only, or the whole video.

    Attributes:
        missing: How many segments of each split have no file, after ``clips`` has come to its end.
        missing_labels: The same by split and class.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        train: list[Literal["balanced", "unbalanced"]] = ["balanced"],  # noqa: B006 (config schema)
        media_root: str | Path | None = None,
        cut: bool = True,
    ) -> None:
        super().__init__(root=root, media_root=media_root, cut=cut)
        self.train = train

    def class_names(self) -> list[str] | None:
        """The 527 names by class id; ``None`` where only the ontology is there, which has more than are used.

        Raises:
            ValueError: If the table cannot be read, or if its ids are not 0, 1, 2, ...
        """
        path = self.root / "class_labels_indices.csv"
        if not path.is_file():
            return None
        names: list[str] = []
        columns = ["index", "mid", "display_name"]
        for line, row in read_table(path, columns, filled=columns):
            if row["index"] != str(len(names)):
                raise ValueError(f"{path}, line {line}: index must be {len(names)}, got {row['index']!r}")
            if (name := row["display_name"]) in names:
                raise ValueError(f"{path}, line {line}: display_name must be a new one, got {name!r} again")
            names.append(name)
        return names

    def segments(self) -> Iterator[Segment]:
        """The rows of the tables: those of the train split, then the evaluation's.

        Raises:
            ValueError: If a table cannot be read, or if a row is not what it must be.
        """
        names = self._names_by_mid()
        tables = [(f"{name}_train", "train") for name in self.train] + [("eval", "test")]
        for table, split in tables:
            path = self.root / f"{table}_segments.csv"
            for line, (youtube_id, start, end, mids) in read_rows(path, 4):
                start_s, end_s = seconds(path, line, "the start", start), seconds(path, line, "the end", end)
                if end_s <= start_s:
                    raise ValueError(f"{path}, line {line}: the end must be after the start, got {end} and {start}")
                try:
                    labels = tuple([names[mid] for mid in mids.split(",")])
                except KeyError as error:
                    raise ValueError(f"{path}, line {line}: a label must be a known mid, got {error}") from None
                yield Segment(youtube_id, start_s, end_s, split, labels)

    def _names_by_mid(self) -> dict[str, str]:
        table, ontology = self.root / "class_labels_indices.csv", self.root / "ontology.json"
        if table.is_file():
            return {row["mid"]: row["display_name"] for _, row in read_table(table, ["mid", "display_name"])}
        if not ontology.is_file():
            raise ValueError(f"root must hold {table.name} or {ontology.name}, got {self.root}")
        try:
            return {entry["id"]: entry["name"] for entry in read_json(ontology)}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{ontology}: the ontology cannot be read ({error!r})") from error
