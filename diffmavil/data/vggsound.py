"""VGGSound: ten-second segments of YouTube videos with one of 309 sounds each, whose source is seen.

Source: Chen et al., "VGGSound: A large-scale audio-visual dataset", ICASSP 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from diffmavil.data.tables import read_rows, seconds
from diffmavil.data.youtube import Segment, YouTubeSource

_SEGMENT_S: Final = 10.0


class VGGSoundSource(YouTubeSource):
    """VGGSound by its official table, as far as its files are there.

    ``root`` holds ``vggsound.csv``: YouTube id, start in seconds, label and split (train or test) of each clip. For the
    names of the files see :class:`~diffmavil.data.youtube.YouTubeSource`.

    Args:
        root: Folder of the table.
        media_root: Folder of the files, with any folders in it; ``None``: ``root``.
        cut: Whether a file that is named by the id alone holds the segment only, or the whole video.

    Attributes:
        missing: How many segments of each split have no file, after ``clips`` has come to its end.
        missing_labels: The same by split and class.
    """

    def __init__(self, *, root: str | Path, media_root: str | Path | None = None, cut: bool = True) -> None:
        super().__init__(root=root, media_root=media_root, cut=cut)

    def class_names(self) -> list[str]:
        """Sorted labels of the table, whether their files are there or not.

        Raises:
            ValueError: If the table is not as it must be.
        """
        return sorted({label for segment in self.segments() for label in segment.labels})

    def segments(self) -> Iterator[Segment]:
        """The rows of the table.

        Raises:
            ValueError: If the table cannot be read, or if a row is not what it must be.
        """
        path = self.root / "vggsound.csv"
        for line, (youtube_id, start, label, split) in read_rows(path, 4):
            if split not in ("train", "test"):
                raise ValueError(f"{path}, line {line}: split must be train or test, got {split!r}")
            start_s = seconds(path, line, "the start", start)
            yield Segment(youtube_id, start_s, start_s + _SEGMENT_S, split, (label,))
