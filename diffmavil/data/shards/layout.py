"""How clips lie in a folder of shards.

    shard-000000.tar ...        plain tar files: KEY.json, KEY.flac, KEY.000.jpg, KEY.001.jpg, ... of clip after clip
    sidecars/shard-000000.json  what is in that shard, and what was rejected; there once the shard is whole
    index/                      arrays for random access, see index.py
    prepare.json                settings and the list of clips that the shards are made from

The members of a clip follow each other, so that the places of all are known from that of the first and the sizes.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePath
from typing import Final

from diffmavil.checks import check_number

FORMAT_VERSION: Final = 2
"""Of shards and sidecars; folders of any other are refused."""

INDEX_VERSION: Final = 3
"""Of the index, which can be written anew from the sidecars; a reader refuses any other."""

SETTINGS_FILE: Final = "prepare.json"
INDEX_FOLDER: Final = "index"
SIDECAR_FOLDER: Final = "sidecars"

TAR_BLOCK: Final = tarfile.BLOCKSIZE
END_OF_TAR: Final = bytes(2 * TAR_BLOCK)

MAX_CLIP_BYTES: Final = 2**31
"""What the members of a clip may take together: it is put together in memory."""

_STEM_LENGTH: Final = 40


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How sound and pictures are stored.

    Args:
        fps: Pictures a second; those shown at 0, 1 / fps, 2 / fps, ... seconds of a clip are kept.
        short_side: Pixels to which the shorter side of larger pictures is brought.
        quality: Of the JPEG files, 1 to 100.
        sample_rate_hz: Samples of sound a second; the mean of the channels is kept as 16-bit FLAC.

    Raises:
        ValueError: If a number is outside its range.
    """

    fps: float = 4.0
    short_side: int = 256
    quality: int = 90
    sample_rate_hz: int = 16000

    def __post_init__(self) -> None:
        check_number("fps", self.fps, above=0, at_most=240)
        check_number("short_side", self.short_side, at_least=16, at_most=4096)
        check_number("quality", self.quality, at_least=1, at_most=100)
        check_number("sample_rate_hz", self.sample_rate_hz, at_least=1000, at_most=192000)


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes of a shard."""

    offset: int
    size: int


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:06d}.tar"


def clip_key(position: int, path: str) -> str:
    """Name of a clip's members, without their endings: the clip's position in the source's list and its file's name.

    Only letters, digits, ``-`` and ``_``: no dots, which part a key from an ending, and no folders.
    """
    return f"{position:08d}_{re.sub(r'[^A-Za-z0-9-]+', '_', PurePath(path).stem)[:_STEM_LENGTH]}"


def member(name: str, data: bytes) -> bytes:
    """A member of a tar file: header, data and padding. The same name and data give the same bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(_padded(len(data)) - len(data))


def extents(offset: int, sizes: Sequence[int]) -> list[Extent]:
    """Where the data of members lie that follow each other.

    Args:
        offset: Where the first one's header begins.
        sizes: Their data in bytes.
    """
    lengths = (TAR_BLOCK + _padded(size) for size in sizes)
    starts = accumulate(lengths, initial=offset)
    return [Extent(start + TAR_BLOCK, size) for start, size in zip(starts, sizes, strict=False)]


def _padded(size: int) -> int:
    return -(-size // TAR_BLOCK) * TAR_BLOCK
