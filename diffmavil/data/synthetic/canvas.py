"""Anti-aliased drawing of simple moving shapes, for all frames of a clip at once.

A shape is a signed distance (negative inside) evaluated on the pixels of its bounding box; the distance
becomes coverage, and the coverage blends a colour into the frames. Shapes live in the coordinates of a scene:
``u`` to the right and ``v`` downwards, about -1 to 1. ``Canvas.place`` says where in the picture the scene
stands, how large and which way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""

Track = float | NDArray[np.float64]
"""A constant, or one value for each frame."""

Plane = NDArray[np.floating[Any]]
"""Values on a grid of pixels, with or without a leading axis of frames."""


class Canvas:
    """The frames of one clip while they are being drawn.

    Args:
        background: Picture behind everything, (3, H, W), values in [0, 1].
        num_frames: Number of frames.
    """

    def __init__(self, *, background: Plane, num_frames: int) -> None:
        self.size_px = background.shape[-1]
        self.num_frames = num_frames
        self._planes = np.repeat(background[:, None], num_frames, axis=1)
        self.place(centre_x=0.5, centre_y=0.5, scale=0.5, mirrored=False)

    def place(self, *, centre_x: float, centre_y: float, scale: float, mirrored: bool) -> None:
        """Set the scene's coordinates for what is drawn next.

        Args:
            centre_x: Horizontal position of the scene's origin, as a fraction of the picture's width.
            centre_y: Vertical position of the scene's origin, as a fraction of the picture's height.
            scale: Length of one unit of the scene, as a fraction of the picture's width.
            mirrored: Whether ``u`` points to the left.
        """
        pixels = (np.arange(self.size_px) + 0.5) / self.size_px
        self._u = ((pixels - centre_x) / (-scale if mirrored else scale)).astype(np.float32)
        self._v = ((pixels - centre_y) / scale).astype(np.float32)
        self._pixel = 1.0 / (scale * self.size_px)

    def frames(self) -> UInt8[np.ndarray, "T H W C"]:
        """Return the finished pictures, RGB, 8 bit."""
        pictures = np.empty((self.num_frames, self.size_px, self.size_px, 3), np.uint8)
        for channel, plane in enumerate(self._planes):
            pictures[..., channel] = plane * np.float32(255.0) + np.float32(0.5)
        return pictures

    def paint(
        self,
        distance: Callable[[Plane, Plane], Plane],
        bounds: tuple[float, float, float, float],
        colour: Colour,
        *,
        opacity: Track = 1.0,
        softness: float = 0.0,
    ) -> None:
        """Blend a colour into the frames wherever a signed distance is negative.

        Args:
            distance: Signed distance, in scene units, as a function of ``u`` (a row) and ``v`` (a column).
            bounds: Smallest and largest ``u``, then smallest and largest ``v``, of the shape in all frames.
            colour: Colour of the shape.
            opacity: Coverage inside the shape, in [0, 1].
            softness: Width of the blurred edge, in scene units; 0 is as sharp as the pixels allow.
        """
        margin = self._pixel + softness
        columns = _slice(self._u, bounds[0] - margin, bounds[1] + margin)
        rows = _slice(self._v, bounds[2] - margin, bounds[3] + margin)
        d = distance(self._u[columns], self._v[rows, None])
        coverage = np.clip(0.5 - d * np.float32(1.0 / margin), 0.0, 1.0) * column(opacity)
        self._blend(coverage, rows, columns, colour)

    def disc(
        self, u: Track, v: Track, radius_u: Track, radius_v: Track, colour: Colour, *, opacity: Track = 1.0
    ) -> None:
        """Draw a filled ellipse with its axes along ``u`` and ``v``."""
        centre_u, centre_v, ru, rv = column(u), column(v), column(radius_u), column(radius_v)
        smallest = np.minimum(ru, rv)
        self.paint(
            lambda x, y: (np.sqrt(((x - centre_u) / ru) ** 2 + ((y - centre_v) / rv) ** 2) - 1.0) * smallest,
            (*_extent(u, radius_u), *_extent(v, radius_v)),
            colour,
            opacity=opacity,
        )

    def glow(self, u: float, v: float, radius: float, colour: Colour, *, opacity: Track = 1.0) -> None:
        """Draw light around a point, fading towards the radius."""
        self.paint(
            lambda x, y: np.sqrt((x - u) ** 2 + (y - v) ** 2) - radius * 0.5,
            (u - radius, u + radius, v - radius, v + radius),
            colour,
            opacity=opacity,
            softness=radius,
        )

    def line(
        self,
        u0: Track,
        v0: Track,
        u1: Track,
        v1: Track,
        width: float,
        colour: Colour,
        *,
        opacity: Track = 1.0,
    ) -> None:
        """Draw a straight stroke with round ends."""
        start_u, start_v, end_u, end_v = column(u0), column(v0), column(u1), column(v1)
        along_u, along_v = end_u - start_u, end_v - start_v
        inverse = 1.0 / np.maximum(along_u**2 + along_v**2, np.float32(1e-6))

        def distance(x: Plane, y: Plane) -> Plane:
            from_u, from_v = x - start_u, y - start_v
            share = np.clip((from_u * along_u + from_v * along_v) * inverse, 0.0, 1.0)
            return np.asarray(np.hypot(from_u - along_u * share, from_v - along_v * share) - np.float32(width / 2))

        low_u, high_u = _extent(np.append(u0, u1), width)
        low_v, high_v = _extent(np.append(v0, v1), width)
        self.paint(distance, (low_u, high_u, low_v, high_v), colour, opacity=opacity)

    def box(self, u: Track, v: Track, half_u: Track, half_v: Track, colour: Colour, *, opacity: Track = 1.0) -> None:
        """Draw a filled rectangle with its sides along ``u`` and ``v``."""
        centre_u, centre_v, hu, hv = column(u), column(v), column(half_u), column(half_v)
        self.paint(
            lambda x, y: np.maximum(np.abs(x - centre_u) - hu, np.abs(y - centre_v) - hv),
            (*_extent(u, half_u), *_extent(v, half_v)),
            colour,
            opacity=opacity,
        )

    def beam(
        self,
        u: float,
        v: float,
        angle: Track,
        half_angle: float,
        reach: float,
        colour: Colour,
        *,
        opacity: Track = 1.0,
    ) -> None:
        """Draw a sector of light that leaves a point at an angle (radians from ``u`` towards ``-v``)."""
        cosine, sine = column(np.cos(angle)), column(-np.sin(angle))
        edge_cosine, edge_sine = np.float32(np.cos(half_angle)), np.float32(np.sin(half_angle))

        def distance(x: Plane, y: Plane) -> Plane:
            ahead = (x - u) * cosine + (y - v) * sine
            aside = np.abs((x - u) * sine - (y - v) * cosine)
            beyond = np.hypot(x - u, y - v) - np.float32(reach)
            return np.asarray(np.maximum(aside * edge_cosine - ahead * edge_sine, beyond))

        self.paint(distance, (u - reach, u + reach, v - reach, v + reach), colour, opacity=opacity)

    def stamps(
        self,
        frame: NDArray[np.int64],
        u: NDArray[np.float64],
        v: NDArray[np.float64],
        half_u: float,
        half_v: float,
        colour: Colour,
        *,
        opacity: NDArray[np.float64],
    ) -> None:
        """Draw many small ellipses, each in one frame.

        Args:
            frame: Index of the frame of each ellipse.
            u: Centre of each ellipse.
            v: Centre of each ellipse.
            half_u: Radius along ``u`` of all of them, in scene units.
            half_v: Radius along ``v`` of all of them, in scene units.
            colour: Colour of all of them.
            opacity: Coverage of each.
        """
        step_u, step_v = float(self._u[1] - self._u[0]), float(self._v[1] - self._v[0])
        x, y = (u - float(self._u[0])) / step_u, (v - float(self._v[0])) / step_v
        radius_x, radius_y = half_u / abs(step_u), half_v / step_v
        reach_x, reach_y = int(radius_x) + 2, int(radius_y) + 2
        columns = np.rint(x).astype(np.int64)[:, None, None] + np.arange(-reach_x, reach_x + 1)
        rows = np.rint(y).astype(np.int64)[:, None, None] + np.arange(-reach_y, reach_y + 1)[:, None]
        radius = np.sqrt(((columns - x[:, None, None]) / radius_x) ** 2 + ((rows - y[:, None, None]) / radius_y) ** 2)
        cover = np.clip(0.5 - (radius - 1.0) * min(radius_x, radius_y), 0.0, 1.0) * opacity[:, None, None]
        inside = (columns >= 0) & (columns < self.size_px) & (rows >= 0) & (rows < self.size_px) & (cover > 0.0)
        frames, rows, columns = np.broadcast_arrays(frame[:, None, None], rows, columns)
        coverage = np.zeros((self.num_frames, self.size_px, self.size_px), np.float32)
        np.maximum.at(coverage, (frames[inside], rows[inside], columns[inside]), cover[inside].astype(np.float32))
        self._blend(coverage, slice(None), slice(None), colour)

    def _blend(self, coverage: Plane, rows: slice, columns: slice, colour: Colour) -> None:
        for plane, level in zip(self._planes, colour, strict=True):
            region = plane[:, rows, columns]
            region += coverage * (np.float32(level) - region)


def column(track: Track) -> Plane:
    """Shape a track so that it broadcasts over (T, H, W)."""
    values = np.asarray(track, np.float32)
    return values[:, None, None] if values.ndim else values


def _extent(centre: Track, radius: Track) -> tuple[float, float]:
    return float(np.min(centre - radius)), float(np.max(centre + radius))


def _slice(coordinates: Plane, low: float, high: float) -> slice:
    inside = np.flatnonzero((coordinates >= low) & (coordinates <= high))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)
