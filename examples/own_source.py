"""Clips from a JSON list: a data source of one's own.

The file holds ``[{"path": "a.mp4", "label": "rain", "split": "test"}, ...]``; paths start from its folder, and label
and split may be left out. From the repository's root::

    python -m diffmavil fit --config pretrain.yaml --data.source examples.own_source.JsonList --data.source.path a.json
"""

from __future__ import annotations

import json
from pathlib import Path

from diffmavil.data import Clip, ClipSource


class JsonList(ClipSource):
    """The clips that a JSON file lists.

    Args:
        path: The JSON file.
    """

    def __init__(self, *, path: Path) -> None:
        self.path = path

    def clips(self) -> list[Clip]:
        """List the clips, in the file's order.

        Raises:
            ValueError: If an entry has no path.
        """
        clips = []
        for entry in json.loads(self.path.read_text(encoding="utf-8")):
            if "path" not in entry:
                raise ValueError(f"{self.path}: every entry must have a path, got {entry}")
            labels = (entry["label"],) if "label" in entry else ()
            path = self.path.parent / entry["path"]
            clips.append(Clip(str(path), split=entry.get("split", "train"), labels=labels))
        return clips
