"""From frames as a file stores them to what a player shows: square pixels, upright, mirrored where it says so."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import cos, inf, pi, sin
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_MAX_PIXEL_ASPECT: Final = 4.0
"""No format has pixels that are longer in one direction: a file that says so is broken. Video CD's are 2.9."""

_MAX_SHOWN_ASPECT: Final = 3.0
"""Nor are there frames of such pixels that would be shown longer than this. The widest cinema is 2.76."""

UPRIGHT: Final = (1.0, 0.0, 0.0, 1.0)
"""The matrix of a frame that is shown as it is stored."""


def pixel_aspect(stated: float, width: int, height: int) -> float:
    """Width of a file's pixels over their height; 1 where it states none, or one that cannot be.

    Args:
        stated: What the file says; 0 means nothing.
        width: Pixels in a row.
        height: Rows.
    """
    shown = stated * width / max(1, height)
    can_be = _is_within(stated, _MAX_PIXEL_ASPECT) and _is_within(shown, _MAX_SHOWN_ASPECT)
    return stated if can_be else 1.0


def _is_within(aspect: float, limit: float) -> bool:
    return 1 / limit <= aspect <= limit


def shown_size(width: int, height: int, aspect: float, short_side: int | None, max_side: int) -> tuple[int, int]:
    """Width and height to which a stored frame is scaled.

    Pixels that are not square are made so by lengthening one side, which loses nothing.

    Args:
        width: Pixels in a row, as stored.
        height: Rows.
        aspect: Width of a pixel over its height.
        short_side: Pixels to which the shorter side of larger frames is brought; ``None``: all as they are.
        max_side: Most pixels of the longer side.
    """
    wide, high = width * max(1.0, aspect), height / min(1.0, aspect)
    scale = min(1.0, (short_side or inf) / min(wide, high), max_side / max(wide, high))
    return max(1, round(wide * scale)), max(1, round(high * scale))


def rotation_matrix(degrees: float) -> tuple[float, float, float, float]:
    """The display matrix of a turn, counterclockwise."""
    angle = degrees * pi / 180
    return cos(angle), -sin(angle), sin(angle), cos(angle)


def display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """How a decoded frame is to be turned and mirrored: a, b, c, d of :func:`upright`."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # the frame also has side data of a kind that PyAV has no name for, and it gives none then
        return rotation_matrix(float(frame.rotation))
    if data is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("5i", bytes(data)[:20])
    return float(a), float(b), float(c), float(d)


def upright(frame: npt.NDArray[np.uint8], matrix: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Turn and mirror a frame as its display matrix says, to the nearest of the 8 ways to lay a rectangle.

    Args:
        frame: The frame as stored, of shape (H, W, 3).
        matrix: a, b, c, d: a pixel (x, y) is shown at (a x + c y, b x + d y), but for an offset; y points down.

    Source: ISO/IEC 14496-12, section 6.2.2.
    """
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # rows become columns
        frame, to_right, down = frame.swapaxes(0, 1), c, b
    else:
        to_right, down = a, d
    return np.ascontiguousarray(frame[:: -1 if down < 0 else 1, :: -1 if to_right < 0 else 1])
