"""Files and folders that lie among a data set's clips and are none of them: hidden ones, and what macOS adds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from lightning.pytorch.utilities import rank_zero_only

_LOG: Final = logging.getLogger(__name__)

_MACOS: Final = "__MACOSX"
"""Folder in which macOS's archives keep what belongs to files (``._NAME``), under the files' own names."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden: it begins with a dot, or is macOS's."""
    return name.startswith(".") or name == _MACOS


class LeftHidden:
    """Counts what a listing leaves out because it is hidden.

    Args:
        root: The folder that is listed; it may be hidden itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files, self.folders, self._first = 0, 0, ""

    def note(self, path: str, *, is_folder: bool) -> None:
        """Note a media file, or a folder, that is left out with all that is in it."""
        self.files += not is_folder
        self.folders += is_folder
        self._first = self._first or path

    def __str__(self) -> str:
        """Such as ``2 hidden files and 1 hidden folder, the first ._a.wav``; empty where nothing was left out."""
        kinds = ((self.files, "file"), (self.folders, "folder"))
        counts = " and ".join(f"{count} hidden {kind}{'s' * (count > 1)}" for count, kind in kinds if count)
        return counts and f"{counts}, the first {self._first}"

    @rank_zero_only
    def say(self) -> None:
        """Say in one line what was left out, if anything was."""
        if text := str(self):
            _LOG.warning(f"{self.root}: left out {text}")
