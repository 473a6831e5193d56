"""Segments of YouTube videos that a table lists, as far as their files are there."""

from __future__ import annotations

import logging
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.folder import MEDIA_SUFFIXES, is_folder
from diffmavil.data.hidden import LeftHidden, is_hidden

_LOG: Final = logging.getLogger(__name__)

_ID_LENGTH: Final = 11


class Named(NamedTuple):
    """How a file is named: what is before and after the video's id, and the start that it gives, if any."""

    before: str
    after: str
    start: float | None


class Segment(NamedTuple):
    """A row of a table: part of a video, from ``start_s`` to ``end_s`` seconds."""

    youtube_id: str
    start_s: float
    end_s: float
    split: str
    labels: tuple[str, ...]


class YouTubeSource(ClipSource):
    """Segments of YouTube videos, as far as their files are there.

    A file is found by its name, in any folder below ``media_root`` and with any ending of a media file: the video's
    id, alone or followed by the segment's start, or start and end, in seconds or milliseconds (``ID.mp4``,
    ``ID_30.mp4``, ``ID_000030.mp4``, ``ID_30.000_40.000.mkv``, ``ID_30000.wav``), each also with a ``Y`` before it
    (``YID.wav``, ``YID_30.000_40.000.wav``). One with the start in its name holds the segment and nothing else. Of
    several files of a segment the one that names its start is taken (with ``cut: false`` the one that does not), then
    the first by path. Links to files and folders are followed; hidden ones are left out and counted in a line.

    Args:
        root: Folder of the tables.
        media_root: Folder of the files; ``None``: ``root``.
        cut: Whether a file that is named by the id alone holds the segment only, or the whole video.

    Attributes:
        missing: How many segments of each split have no file, after ``clips`` has come to its end.
        missing_labels: The same by split and class.
    """

    def __init__(self, *, root: str | Path, media_root: str | Path | None, cut: bool) -> None:
        self.root = Path(root)
        self.media_root = self.root if media_root is None else Path(media_root)
        self.cut = cut
        self.missing: Counter[str] = Counter()
        self.missing_labels: Counter[tuple[str, str]] = Counter()

    def num_missing(self) -> Counter[tuple[str, str]]:
        """How many segments have no file, by split and class."""
        return Counter({(split, ""): count for split, count in self.missing.items()}) + self.missing_labels

    @abstractmethod
    def segments(self) -> Iterator[Segment]:
        """What the tables list, in their order.

        Raises:
            ValueError: If a table cannot be read, or if a row is not what it must be.
        """

    def clips(self) -> Iterator[Clip]:
        """List the segments whose files are there, in the tables' order, and say how many are not.

        Raises:
            ValueError: If a table is not as it must be, or if no segment has a file.
        """
        hidden = LeftHidden(self.media_root)
        files = find_media(self.media_root, hidden)
        hidden.say()
        listed: Counter[str] = Counter()
        self.missing, self.missing_labels = Counter(), Counter()
        for segment in self.segments():
            listed[segment.split] += 1
            starts = (None, segment.start_s, 1000 * segment.start_s)
            fitting = [file for file in files.get(segment.youtube_id, ()) if file.start in starts]
            if fitting:
                yield self._clip(segment, fitting[0] if len(fitting) == 1 else min(fitting, key=self._rank))
            else:
                self.missing[segment.split] += 1
                self.missing_labels.update((segment.split, label) for label in segment.labels)
        if self.missing == listed:
            found = f"none of {listed.total()} segments among the files of {len(files)} videos in {self.media_root}"
            raise ValueError(f"media_root must hold media files named by their YouTube ids, got {found}")
        if self.missing:
            counts = " and ".join(f"{count} of {listed[split]} {split}" for split, count in self.missing.items())
            _LOG.warning(f"{self.media_root} has no files of {counts} segments; they are left out")

    def _rank(self, file: Named) -> tuple[bool, str, str]:
        return (file.start is None) == self.cut, file.before, file.after

    def _clip(self, segment: Segment, file: Named) -> Clip:
        whole = file.start is None and not self.cut
        start_s, end_s = (segment.start_s, segment.end_s) if whole else (None, None)
        path = f"{file.before}{segment.youtube_id}{file.after}"
        return Clip(path, start_s, end_s, segment.split, segment.labels)


def find_media(root: Path, hidden: LeftHidden) -> dict[str, tuple[Named, ...]]:
    """The media files below a folder by YouTube id. Only names are looked at: a folder of millions takes seconds.

    Args:
        root: The folder.
        hidden: Counts what is left out.

    Raises:
        ValueError: If it is not a folder.
    """
    if not root.is_dir():
        raise ValueError(f"media_root must be a folder, got {root}")
    found: dict[str, tuple[Named, ...]] = {}
    folders, seen = [str(root)], set()
    while folders:
        folder = folders.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        same: dict[tuple[str, str, str], tuple[Named, ...]] = {}  # one object for all files that are named alike
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, ending = entry.name.rpartition(".")
                if f".{ending.lower()}" in MEDIA_SUFFIXES:
                    if is_hidden(entry.name):
                        hidden.note(entry.path, is_folder=False)
                        continue
                    # an id may begin with Y, too: where it ends tells one from the other
                    has_mark = stem[0] == "Y" and len(stem) > _ID_LENGTH and stem[1 + _ID_LENGTH :][:1] in ("", "_")
                    mark = "Y" if has_mark else ""
                    youtube_id, start = stem[len(mark) :][:_ID_LENGTH], stem[len(mark) + _ID_LENGTH :]
                    key = (mark, start, ending)
                    if key not in same:
                        same[key] = _named(f"{folder}{os.sep}{mark}", start, f"{dot}{ending}")
                    found[youtube_id] = found[youtube_id] + same[key] if youtube_id in found else same[key]
                elif is_folder(entry):
                    if is_hidden(entry.name):
                        hidden.note(entry.path, is_folder=True)
                    else:
                        folders.append(entry.path)
    return found


def _named(before: str, start: str, ending: str) -> tuple[Named, ...]:
    """What a file's name says; nothing if it is not one of those that we know."""
    if not start:
        return (Named(before, ending, None),)
    if re.fullmatch(r"_[0-9.]+(_[0-9.]+)?", start) is None:
        return ()
    try:
        return (Named(before, f"{start}{ending}", float(start.split("_")[1])),)
    except ValueError:  # two points
        return ()
