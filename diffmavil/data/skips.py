"""Clips that could not be read: remembered, counted by reason, and listed at the end."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from diffmavil.data.errors import REASONS
from diffmavil.types import Skip


class SkippedClips:
    """The clips that were skipped so far, each once."""

    def __init__(self) -> None:
        self.by_index: dict[int, Skip] = {}
        """What was wrong with each, by its position in the list of clips."""

    def __len__(self) -> int:
        return len(self.by_index)

    def add(self, skip: Skip) -> None:
        """Note a clip; what was said of it first stands."""
        self.by_index.setdefault(skip.index, skip)

    def summary(self, clips: int, did: str = "skipped") -> str:
        """One line such as ``skipped 3 of 20 clips: 2 no audio track, 1 empty file``.

        Args:
            clips: How many clips there are.
            did: What was done about them.
        """
        reasons = Counter(skip.reason for skip in self.by_index.values()).most_common()
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
        return f"{did} {len(self)} of {clips} clips" + (f": {counts}" if counts else "")

    def write(self, path: Path) -> None:
        """List them in a CSV file: path, reason, detail."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "reason", "detail"])
            writer.writerows([skip.path, skip.reason, skip.detail] for _, skip in sorted(self.by_index.items()))

    def state(self) -> list[dict[str, Any]]:
        """The clips as plain values, for a checkpoint."""
        return [asdict(skip) for skip in self.by_index.values()]

    def load(self, state: Any) -> None:
        """Count on from those of a checkpoint.

        Raises:
            ValueError: If they are no such list.
        """
        check_skips(state)
        self.by_index |= {skip["index"]: Skip(**skip) for skip in state}


def check_skips(state: Any) -> None:
    """Refuse what is no list of skipped clips, as :meth:`SkippedClips.state` gives it.

    Raises:
        ValueError: If so.
    """
    kinds = {field.name: int if field.name == "index" else str for field in fields(Skip)}
    skips: list[Any] = state if isinstance(state, list) else [None]
    for skip in skips:
        fits = isinstance(skip, dict) and {key: type(value) for key, value in skip.items()} == kinds
        if not fits or skip["index"] < 0 or skip["reason"] not in REASONS:
            raise ValueError(f"skipped must be a list of clips, each with {', '.join(kinds)} as they are written down")
