"""A clip that is read in several goes, against its pictures one by one."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pytest
from media import counter_frame, counter_of
from PIL import Image

from diffmavil.data import Clip, MediaError
from diffmavil.data.audit import Audit
from diffmavil.data.media import Media, MediaInfo
from diffmavil.data.shards import Stored, encode

Draw = Callable[[int], npt.NDArray[np.uint8]]


class Drawn(Media):
    """A film without sound whose pictures, ten a second, are drawn when they are asked for.

    Args:
        count: How many there are.
        draw: Draws one of them.
    """

    path = "drawn"

    def __init__(self, count: int, draw: Draw = counter_frame) -> None:
        self.info = MediaInfo(count / 10, None, (0.0, count / 10))
        self.draw = draw
        self.asked_for: list[int] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        raise NotImplementedError

    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> npt.NDArray[np.uint8]:
        self.asked_for.append(len(times_s))
        return np.stack([self.draw(round(time_s * 10)) for time_s in times_s])


@pytest.fixture
def seven_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_PICTURES_AT_ONCE", 7)


def encoded(media: Media, *, audit: Audit | None = None, clip: Clip | None = None) -> list[int]:
    """What the stored pictures count."""
    stored = encode.encode_clip(clip or Clip("drawn"), media, "video", Stored(fps=10.0), audit or Audit())
    return [counter_of(np.asarray(Image.open(io.BytesIO(jpeg)))) for jpeg in stored.jpegs]


@pytest.mark.parametrize(("count", "goes"), [(6, [6]), (7, [7]), (8, [7, 1]), (20, [7, 7, 6])])
def test_a_long_clip_has_every_picture_once(seven_at_once: None, count: int, goes: list[int]) -> None:
    film = Drawn(count)
    assert encoded(film) == list(range(count))
    assert film.asked_for == goes


def test_a_segment_of_a_long_clip_has_every_picture_once(seven_at_once: None) -> None:
    assert encoded(Drawn(30), clip=Clip("drawn", start_s=0.5, end_s=2.5)) == list(range(5, 25))


@pytest.mark.parametrize("moves_at", [0, 1, 6, 7, 8, 19, None])
def test_a_long_clip_is_still_only_if_no_picture_differs_from_the_first(
    seven_at_once: None, moves_at: int | None
) -> None:
    film = Drawn(20, lambda k: counter_frame(k == moves_at))
    if moves_at is None:
        with pytest.raises(MediaError, match=r"still picture \(20 pictures\)"):
            encoded(film)
    else:
        assert encoded(film) == [int(k == moves_at) for k in range(20)]


def test_pictures_of_two_sizes_are_no_clip(seven_at_once: None) -> None:
    film = Drawn(20, lambda k: counter_frame(k, 64, 48 if k < 7 else 50))
    with pytest.raises(MediaError, match="the picture changes its size"):
        encoded(film)
