"""A clip, and the place where people plug in their own data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from diffmavil.data.decode import MediaFile
from diffmavil.data.media import TIMEOUT_S, Media

SPLITS: Final = ("train", "val", "test")
"""The parts of a data set that the package knows."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A media file, or a segment of one.

    Args:
        path: The file.
        start_s: Start of the segment, in seconds from the file's start; ``None`` for the file's start.
        end_s: End of the segment, in seconds from the file's start; ``None`` for the file's end.
        split: ``"train"``, ``"val"`` or ``"test"``.
        labels: Names of the clip's classes.
        fold: Number of the clip's cross-validation fold, where the data set has folds.
        row: Number by which its source finds it, where that is more than a path.
        block: Number of the shard, or the like, that it lies in together with its neighbours.
    """

    path: str
    start_s: float | None = None
    end_s: float | None = None
    split: str = "train"
    labels: tuple[str, ...] = ()
    fold: int | None = None
    row: int | None = None
    block: int | None = None


class SourceError(ValueError):
    """A data set's folder or tables are not as they must be; the message says how, in one line."""


class ClipSource(ABC):
    """Where the clips of a data set come from.

    Own data: subclass this, list the clips in ``clips``, and name the subclass in the config::

        data:
          source:
            class_path: my_package.MySource
            init_args: {root: ...}
    """

    def open(self, clip: Clip, *, timeout_s: float = TIMEOUT_S) -> Media:
        """Open one of the clips for reading; by default its ``path`` as a media file.

        Args:
            clip: The clip.
            timeout_s: Seconds for all that is done with it.

        Raises:
            MediaError: If it cannot be opened, read or decoded: the clip is left out, and named with the reason. So
                it is with an ``OSError``. Any other exception is taken for a mistake in the program and ends the run.
        """
        return MediaFile(clip.path, timeout_s=timeout_s)

    def class_names(self) -> list[str] | None:
        """Names of all classes, in the order of their ids, where a data set has more than its clips show.

        ``None``, the default: the sorted labels of the clips, each of which the train split must have.
        """
        return None

    def num_missing(self) -> Counter[tuple[str, str]]:
        """How many clips a data set's tables list whose files are not there, after ``clips`` has come to its end.

        By split and class; under the class ``""``, all of a split. The default: none that is known of.
        """
        return Counter()

    @abstractmethod
    def clips(self) -> Iterable[Clip]:
        """List the clips, in an order that is the same at every call. Files need not be opened.

        For millions of clips, yield them one by one: the data module keeps them in columns.

        Raises:
            ValueError: If the data set's folder or tables are not as they must be.
        """
