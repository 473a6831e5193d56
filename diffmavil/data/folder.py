"""A plain folder of media files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from diffmavil.data.clips import SPLITS, Clip, ClipSource
from diffmavil.data.hidden import LeftHidden, is_hidden

_VIDEO: Final = """
    .3g2 .3gp .3gpp .asf .avi .dv .f4v .flv .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .qt .ts .vob
    .webm .wmv
"""
_AUDIO: Final = """
    .a52 .aac .ac3 .aif .aifc .aiff .amr .ape .au .caf .dts .eac3 .flac .m4a .m4b .mka .mp2 .mp3 .oga .ogg .opus .sph
    .spx .tta .w64 .wav .weba .wma .wv
"""
MEDIA_SUFFIXES: Final = frozenset(f"{_VIDEO} {_AUDIO}".split())
"""File name endings that are taken for media files, in lower case."""


class FolderSource(ClipSource):
    """Every media file below a folder, found by its file name ending, in sorted order.

    A first-level folder called ``train``, ``val`` or ``test`` gives its files' split; others are ``train``. Links to
    files and folders are followed, wherever they lead; one that leads back to a folder it lies in is left out. A link
    that leads nowhere is listed, and named as a missing file when it is read. Hidden files and folders, and macOS's
    ``__MACOSX``, are left out and counted in a line.

    Args:
        root: The folder.
    """

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def clips(self) -> Iterator[Clip]:
        """List the folder's media files.

        Raises:
            ValueError: If the folder does not exist, cannot be read, or holds no file with a known ending.
        """
        if not self.root.is_dir():
            raise ValueError(f"root must be a folder, got {self.root}")
        hidden = LeftHidden(self.root)
        try:
            path = ""
            for path, top in _media_files(str(self.root), frozenset(), hidden):
                yield Clip(path=path, split=top if top in SPLITS else "train")
        except OSError as error:
            raise ValueError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error
        if not path:
            but = f" but {hidden}" if str(hidden) else ""
            raise ValueError(f"root must hold media files such as .mp4 or .wav, found none in {self.root}{but}")
        hidden.say()


def _media_files(folder: str, above: frozenset[str], hidden: LeftHidden) -> Iterator[tuple[str, str]]:
    """The media files below a folder in sorted order, and the folder of the first level that each is in, if any.

    Args:
        folder: The folder.
        above: Real paths of the folders that it was come by.
        hidden: Counts what is left out.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        there = sorted(entries, key=lambda entry: entry.name)
    for entry in there:
        if is_folder(entry):
            if is_hidden(entry.name):
                hidden.note(entry.path, is_folder=True)
                continue
            for path, _ in _media_files(entry.path, above | {real}, hidden):
                yield path, entry.name
        elif os.path.splitext(entry.name)[1].lower() in MEDIA_SUFFIXES:
            if is_hidden(entry.name):
                hidden.note(entry.path, is_folder=False)
            else:
                yield entry.path, ""


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is none. Where it is a file, the disk is not asked."""
    try:
        return entry.is_dir()
    except OSError:
        return False
