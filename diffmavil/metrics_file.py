"""What a run's ``metrics.json`` holds: a list of entries, one of its training and one of each test or validation.

{"command": "test", "module": "LinearProbe", "modalities": "audio", "data": "ManifestSource clips.csv",
 "checkpoint": "last.ckpt", "written": "2026-11-28T12:00:00+00:00", "metrics": {"test/accuracy": 0.9}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffmavil.data.json_files import read_json

METRICS: Final = "metrics.json"
"""The file's name in the folder of a run."""

_MAX_BYTES: Final = 2**22


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The entries of a run, none where there is no file.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read or is no regular file.
        ValueError: Naming the file, if it holds something else.
    """
    if not path.exists():
        return []
    try:
        entries = read_json(path, max_bytes=_MAX_BYTES)
    except ValueError as error:
        raise ValueError(f"{path}: the file must hold JSON ({error})") from error
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ValueError(f"{path}: the file must hold a list of entries with their command and metrics")
    return entries


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(metrics := entry.get("metrics"), dict):
        return False
    others = [value for name, value in entry.items() if name != "metrics"]
    are_figures = all(value is None or type(value) in (int, float) for value in metrics.values())
    return isinstance(entry.get("command"), str) and are_figures and all(type(v) in (str, int) for v in others)


def name_of(entry: dict[str, Any]) -> str:
    """What an entry is about, in a few words: ``test of LinearProbe, audio``."""
    parts = [f"{entry['command']} of {entry['module']}" if "module" in entry else str(entry["command"])]
    return ", ".join(parts + [str(entry[name]) for name in ("modalities", "data", "of") if entry.get(name)])
