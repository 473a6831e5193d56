"""A plain folder of media files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from diffmavil.data.clips import SPLITS, Clip, ClipSource

_VIDEO: Final = """
    .3g2 .3gp .asf .avi .dv .f4v .flv .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .ts .vob .webm .wmv
"""
_AUDIO: Final = """
    .aac .ac3 .aif .aiff .amr .ape .au .caf .dts .eac3 .flac .m4a .m4b .mka .mp2 .mp3 .oga .ogg .opus .tta .wav .wma .wv
"""
MEDIA_SUFFIXES: Final = frozenset(f"{_VIDEO} {_AUDIO}".split())
"""File name endings that are taken for media files, in lower case."""


class FolderSource(ClipSource):
    """Every media file below a folder, found by its file name ending, in sorted order.

    A first-level folder called ``train``, ``val`` or ``test`` gives its files' split; others are ``train``.

    Args:
        root: The folder.
    """

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def clips(self) -> list[Clip]:
        """List the folder's media files.

        Raises:
            ValueError: If the folder does not exist, or holds no file with a known ending.
        """
        if not self.root.is_dir():
            raise ValueError(f"root must be a folder, got {self.root}")
        paths = sorted(p for p in self.root.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
        if not paths:
            raise ValueError(f"root must hold media files such as .mp4 or .wav, found none in {self.root}")
        return [Clip(path=str(path), split=self._split(path)) for path in paths]

    def _split(self, path: Path) -> str:
        top = path.relative_to(self.root).parts[0]
        return top if top in SPLITS else "train"
