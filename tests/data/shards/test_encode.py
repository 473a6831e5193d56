"""A long clip against its pictures one by one."""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Iterator, Sequence
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
        self.most_held = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        raise NotImplementedError

    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
        given: list[weakref.ref[npt.NDArray[np.uint8]]] = []
        for time_s in times_s:
            picture = self.draw(round(time_s * 10))
            given.append(weakref.ref(picture))
            yield picture
            del picture
            self.most_held = max(self.most_held, sum(other() is not None for other in given))


def encoded(media: Media, *, audit: Audit | None = None, clip: Clip | None = None) -> list[int]:
    """What the stored pictures count."""
    stored = encode.encode_clip(clip or Clip("drawn"), media, "video", Stored(fps=10.0), audit or Audit())
    return [counter_of(np.asarray(Image.open(io.BytesIO(jpeg)))) for jpeg in stored.jpegs]


def test_a_long_clip_has_every_picture_once_and_few_are_held_in_memory() -> None:
    film = Drawn(70)
    assert encoded(film) == list(range(70))
    assert film.most_held <= 2, "the first and the latest"


def test_a_segment_of_a_long_clip_has_every_picture_once() -> None:
    assert encoded(Drawn(30), clip=Clip("drawn", start_s=0.5, end_s=2.5)) == list(range(5, 25))


@pytest.mark.parametrize("moves_at", [0, 1, 6, 7, 8, 19, None])
def test_a_long_clip_is_still_only_if_no_picture_differs_from_the_first(moves_at: int | None) -> None:
    film = Drawn(20, lambda k: counter_frame(k == moves_at))
    if moves_at is None:
        with pytest.raises(MediaError, match=r"still picture \(20 pictures\)"):
            encoded(film)
    else:
        assert encoded(film) == [int(k == moves_at) for k in range(20)]
