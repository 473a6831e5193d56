"""Decoding JPEG files that may come from a stranger."""

from __future__ import annotations

from typing import Final

import torch
from torchvision.io import ImageReadMode, decode_jpeg

_MAX_SIDE_PX: Final = 8192
"""Of a picture, as for media files."""

_WITHOUT_SIZE: Final = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of frames that are of none: tables, and what is reserved."""


def decode(data: bytearray | memoryview) -> torch.Tensor:
    """The picture in a JPEG file, RGB, of shape (3, H, W).

    Args:
        data: The file.

    Raises:
        ValueError: If it cannot be decoded, or if a side is above 8192 pixels.
    """
    height, width = _size(data)
    if not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX):
        raise ValueError(f"{width} x {height} pixels, at most {_MAX_SIDE_PX} a side")
    try:
        picture: torch.Tensor = decode_jpeg(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError as error:
        raise ValueError("no JPEG that can be decoded") from error
    return picture


def _size(data: bytearray | memoryview) -> tuple[int, int]:
    """Height and width that a JPEG file states, before memory for so much is taken."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _WITHOUT_SIZE:
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    raise ValueError("no JPEG with a size")
