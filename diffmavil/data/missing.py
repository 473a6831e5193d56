"""Why a file that a table names may not be there although its user sees it: a name is not what it looks like."""

from __future__ import annotations

import os
import re
from typing import Final
from unicodedata import normalize

_DRIVE: Final = re.compile(r"(?:^|/)[A-Za-z]:[\\/]")


def missing_hint(path: str) -> str:
    """What may be wrong with the name of a file that is not there; empty where nothing seems to be.

    Args:
        path: The name.
    """
    folder, name = os.path.split(path)
    for form in ("NFC", "NFD"):
        for other in (normalize(form, path), os.path.join(folder, normalize(form, name))):
            if other != path and os.path.isfile(other):
                return f"a file whose name looks the same is there: its letters are in Unicode's {form}, these are not"
    if _DRIVE.search(path):
        return "the name is a path of Windows"
    if "\\" in path:
        there = os.path.isfile(path.replace("\\", "/"))
        return "the name holds a backslash, as paths of Windows do" + ("; with / in its place it is there" * there)
    return ""
