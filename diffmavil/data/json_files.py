"""JSON from a file that may be damaged or come from a stranger; with a checksum of its own where it must be right."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Final

from diffmavil.data.regular import read_regular

MAX_BYTES: Final = 2**26
"""What a file of figures or names may have."""

_MAX_CONTAINERS: Final = 2**20
"""Lists and objects that a text may have: each takes some thirty times its two characters when it is parsed."""

_CRC: Final = "crc32"


def parse_json(data: bytes) -> Any:
    """What a text says.

    Args:
        data: The text, UTF-8.

    Raises:
        ValueError: If it is no JSON, nested too deeply, or of too many lists and objects.
    """
    if data.count(b"[") + data.count(b"{") > _MAX_CONTAINERS:
        raise ValueError(f"more than {_MAX_CONTAINERS} lists and objects")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """What a file says.

    Args:
        path: The file.
        max_bytes: Most that it may have.

    Raises:
        OSError: If it cannot be read, is no regular file, or has more.
        ValueError: If it is no JSON, or nested too deeply.
    """
    return parse_json(read_regular(path, max_bytes=max_bytes))


def read_json_object(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """What a file says that holds one object, for a command whose user is to be told.

    Args:
        path: The file.
        max_bytes: Most that it may have.

    Raises:
        OSError: If it cannot be read, is no regular file, or has more.
        ValueError: Naming the file, if it holds something else.
    """
    try:
        content = read_json(path, max_bytes=max_bytes)
    except ValueError as error:
        raise ValueError(f"{path}: the file must hold JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: the file must hold a JSON object, got {type(content).__name__}")
    return content


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """An object with a checksum of what it says, not of how that is laid out."""
    return {**content, _CRC: _checksum(content)}


def unsealed(content: dict[str, Any]) -> dict[str, Any]:
    """An object without its checksum.

    Raises:
        ValueError: If it has none, or another.
    """
    said = {name: value for name, value in content.items() if name != _CRC}
    if content.get(_CRC) != _checksum(said):
        raise ValueError("the checksum differs")
    return said


def is_sealed(content: dict[str, Any]) -> bool:
    """Whether an object has a checksum, right or wrong."""
    return _CRC in content


def _checksum(content: dict[str, Any]) -> int:
    try:
        return zlib.crc32(json.dumps(content, sort_keys=True).encode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
