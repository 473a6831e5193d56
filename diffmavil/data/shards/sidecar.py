"""What is in a shard: written beside it when it is whole, and what the index is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from diffmavil.data.clips import Clip
from diffmavil.data.json_files import is_sealed, read_json_object, sealed, unsealed
from diffmavil.data.shards.layout import SIDECAR_FOLDER, shard_name

_MAX_BYTES: Final = 2**26
"""What a sidecar may have beside one byte for each of its shard, whose every picture takes more."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A clip that is not in the shards, and why.

    Args:
        position: Its position in the source's list.
        path: The file.
        start_s: Start of the segment, if it is one.
        end_s: Its end.
        reason: One of ``diffmavil.data.errors.REASONS``.
        detail: What the reader said, in one line.
    """

    position: int
    path: str
    start_s: float | None
    end_s: float | None
    reason: str
    detail: str


@dataclass
class Sidecar:
    """What is in a shard.

    Args:
        tar_bytes: Size of the tar file.
        clips: For each clip what its .json member says, its position in the source's list, where its first member's
            header begins (``offset``), and the sizes of the members in bytes (``json_size``, ``flac_size``,
            ``frame_sizes``) and the checksums of sound and pictures (``flac_crc``, ``frame_crcs``).
        rejected: Fields of each ``Rejection``.
    """

    tar_bytes: int = 0
    clips: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def text(self) -> str:
        """It as a file, with a checksum."""
        return json.dumps(sealed(asdict(self)))

    def is_of(self, clips: Sequence[Clip], begin: int) -> bool:
        """Whether these are the clips that it is about, each kept or rejected.

        Args:
            clips: Those of the source that the shard was made from, in order.
            begin: Position of the first.
        """
        about = {entry["position"]: entry for entry in (*self.clips, *self.rejected)}
        if len(about) != len(self.clips) + len(self.rejected) or about.keys() != set(range(begin, begin + len(clips))):
            return False
        for position, clip in enumerate(clips, begin):
            entry = about[position]
            if (entry["path"], entry["start_s"], entry["end_s"]) != (clip.path, clip.start_s, clip.end_s):
                return False
        return all(
            (entry["split"], tuple(entry["labels"]), entry["fold"]) == (clip.split, clip.labels, clip.fold)
            for entry in self.clips
            for clip in [clips[entry["position"] - begin]]
        )


def sidecar_path(folder: Path, number: int) -> Path:
    """Where a shard's sidecar is."""
    return folder / SIDECAR_FOLDER / Path(shard_name(number)).with_suffix(".json")


def read_sidecar(folder: Path, number: int) -> Sidecar | None:
    """What is in a shard, or ``None`` if it is not whole.

    So it is without a sidecar, with one that is damaged, or if it has not the size that the sidecar says. Sidecars of
    the time before there were checksums have none, and are taken as they are.

    Raises:
        OSError: If the sidecar is there and cannot be read.
    """
    try:
        size = (folder / shard_name(number)).stat().st_size
        content = read_json_object(sidecar_path(folder, number), max_bytes=_MAX_BYTES + size)
        sidecar = Sidecar(**unsealed(content) if is_sealed(content) else content)
        return sidecar if sidecar.tar_bytes == size and _has_entries(sidecar) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


_REJECTION: Final = {entry.name for entry in fields(Rejection)}


def _has_entries(sidecar: Sidecar) -> bool:
    """Whether each rejection has its fields; those of clips are looked at where they come into an index."""
    lists = (sidecar.clips, sidecar.rejected)
    if not all(isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in lists):
        return False
    return all(
        entry.keys() == _REJECTION
        and isinstance(entry["position"], int)
        and all(isinstance(entry[name], str) for name in ("path", "reason", "detail"))
        for entry in sidecar.rejected
    )
