"""Each check, just within its limit and just beyond it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from diffmavil.data.audit import Audit
from diffmavil.data.errors import MediaError

OFF = Audit(
    min_clip_s=0.0, max_clip_s=None, silence_dbfs=None, still_levels=None, apart_s=None, cut_short_s=None
)  # fmt: skip
FIRST = np.full((45, 70, 3), 100, np.uint8)
"""A picture with blocks of 16 x 16 pixels, of 13 rows at its lower edge, and of 6 columns at its right one."""

BLOCKS = [
    (top, left, min(top + 16, 45), min(left + 16, 70)) for top in (0, 16, 32) for left in (0, 16, 32, 48, 64)
]  # fmt: skip


def reason(check: str, audit: Audit, *args: Any) -> str | None:
    """Why a check of an audit refuses something; ``None`` if it does not."""
    try:
        getattr(audit, f"check_{check}")("a.mp4", *args)
    except MediaError as error:
        return error.reason
    return None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("dbfs", "least"),
    [(-60.0, 33), (-40.0, 328), (-20.0, 3277), (0.0, 32768)],  # 32768 * 10^(dbfs / 20), rounded up
)
def test_a_clip_is_silent_below_its_loudest_sample(dbfs: float, least: int, sign: int) -> None:
    sound = np.zeros(1000, np.int16)
    if sign * least <= 32767:
        sound[700] = sign * least
        assert reason("sound", Audit(silence_dbfs=dbfs), sound) is None
    sound[700] = sign * (least - 1)
    assert reason("sound", Audit(silence_dbfs=dbfs), sound) == "silent"
    assert reason("sound", OFF, sound) is None


def test_no_sound_at_all_is_too_short_even_for_a_lenient_audit() -> None:
    assert reason("sound", OFF, np.zeros(0, np.int16)) == "too short"
    assert reason("sound", OFF, np.zeros(1, np.int16)) is None
    assert reason("sound", Audit(), np.zeros(1, np.int16)) == "silent"


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("box", BLOCKS)
def test_a_block_anywhere_in_any_colour_that_changes_by_more_moves_the_picture(
    box: tuple[int, int, int, int], channel: int
) -> None:
    top, left, bottom, right = box
    audit = Audit(still_levels=2.0)
    changed = FIRST.copy()
    changed[top:bottom, left:right, channel] += 2
    assert not audit.moves(FIRST, changed), "the limit itself"
    changed[bottom - 1, right - 1, channel] += 1
    assert audit.moves(FIRST, changed), "one level of one pixel beyond it"
    assert audit.moves(changed, FIRST), "darker as well as brighter"


def test_what_is_compared_is_the_mean_of_a_block_and_not_of_the_picture_or_of_signed_differences() -> None:
    audit = Audit(still_levels=2.0)
    changed = FIRST.copy()
    changed[16:32, 16:32][::2] += 3  # up and down by 3: nothing on the whole
    changed[16:32, 16:32][1::2] -= 3
    assert audit.moves(FIRST, changed)
    few = FIRST.copy()
    few[20, 20:22] = 255  # 2 x 155 of 256: a mean of 1.2
    assert not audit.moves(FIRST, few)
    few[20, 22:24] = 255
    assert audit.moves(FIRST, few)
    across = FIRST.copy()
    across[8:24, 8:24] += 6  # a quarter of it in each of four blocks: 1.5
    assert not audit.moves(FIRST, across)


def test_the_least_limit_and_none() -> None:
    assert Audit(still_levels=0.0).moves(FIRST, FIRST + np.uint8(1))
    assert not Audit(still_levels=0.0).moves(FIRST, FIRST)
    assert OFF.moves(FIRST, FIRST)


@pytest.mark.parametrize("size", [(1, 1), (5, 90), (16, 16), (17, 15)])
def test_pictures_of_any_size_have_blocks(size: tuple[int, int]) -> None:
    first: npt.NDArray[np.uint8] = np.full((*size, 3), 100, np.uint8)
    audit = Audit(still_levels=2.0)
    assert not audit.moves(first, first + np.uint8(2)) and audit.moves(first, first + np.uint8(3))


def test_one_picture_cannot_be_still() -> None:
    assert reason("moved", Audit(), False, 1) is None
    assert reason("moved", Audit(), False, 2) == "still picture"
    assert reason("moved", Audit(), True, 2) is None


def span(audio: Any, video: Any) -> dict[str, Any]:
    return {"audio": audio, "video": video}


@pytest.mark.parametrize(
    ("at", "spans"),
    [
        ("begin", lambda apart_s: span((apart_s, 5.0), (0.0, 5.0))),
        ("begin", lambda apart_s: span((0.0, 5.0), (apart_s, 5.0))),
        ("end", lambda apart_s: span((0.0, 5.0 - apart_s), (0.0, 5.0))),
        ("end", lambda apart_s: span((0.0, 5.0), (0.0, 5.0 - apart_s))),
    ],
)
def test_sound_and_picture_begin_and_end_together(at: str, spans: Any) -> None:
    for limit_s in (0.0, 0.25, 0.5):
        audit = Audit(apart_s=limit_s)
        assert reason("spans", audit, spans(limit_s)) is None
        assert reason("spans", audit, spans(limit_s + 0.0625)) == "sound and picture apart"
    with pytest.raises(MediaError, match=f"sound and picture {at} at "):
        Audit().check_spans("a.mp4", spans(1.0))
    assert reason("spans", OFF, spans(4.0)) is None
    assert reason("spans", Audit(), span((0.0, 5.0), (0.5, 4.5))) is None, "at both ends, each by the limit"


def test_each_stream_must_be_long_enough() -> None:
    audit = Audit(min_clip_s=2.0, apart_s=None)
    for other in ((0.0, 2.0), (1.0, 3.0), (1.0, 9.0)):
        for spans in (span(other, (0.0, 2.0)), span((0.0, 2.0), other)):
            assert reason("spans", audit, spans) is None
    for short in ((0.0, 1.99), (1.0, 2.99), (0.01, 2.0)):
        for spans in (span(short, (0.0, 2.0)), span((0.0, 2.0), short), {"audio": short}, {"video": short}):
            assert reason("spans", audit, spans) == "too short"
    assert reason("spans", audit, span((0.0, 1.9999), (0.0, 2.0))) is None, "clocks of files are rounded"
    assert reason("spans", OFF, span((0.0, 0.01), (0.0, 2.0))) is None
    assert reason("spans", OFF, span((2.0, 2.0), (0.0, 2.0))) == "too short", "nothing is never enough"


def test_no_stream_may_end_too_late() -> None:
    audit = Audit(max_clip_s=4.0, apart_s=None)
    for late in ((0.0, 4.0), (3.0, 4.0), (0.0, 4.0009)):
        assert reason("spans", audit, span(late, (0.0, 2.0))) is None
    for late in ((0.0, 4.01), (3.0, 4.01)):
        for spans in (span(late, (0.0, 2.0)), span((0.0, 2.0), late), {"audio": late}):
            assert reason("spans", audit, spans) == "too long"
    assert reason("spans", OFF, span((0.0, 1e5), (0.0, 2.0))) is None


@pytest.mark.parametrize(("limit_s", "found_s"), [(0.0, 4.0), (0.5, 3.5), (1.5, 2.5)])
def test_a_segment_may_lack_a_little(limit_s: float, found_s: float) -> None:
    audit = Audit(cut_short_s=limit_s)
    assert reason("segment", audit, 4.0, found_s) is None
    assert reason("segment", audit, 4.0, found_s - 0.0625) == "too short"
    assert reason("segment", OFF, 4.0, 0.1) is None
    assert reason("segment", audit, float("inf"), 0.1) is None, "to the end of the file, wherever that is"


def test_streams_that_are_wanted_and_missing() -> None:
    assert reason("spans", OFF, {"audio": None, "video": (0.0, 1.0)}) == "no audio track"
    assert reason("spans", OFF, {"audio": (0.0, 1.0), "video": None}) == "no video track"
    assert reason("spans", OFF, {"video": (0.0, 1.0)}) is None, "not wanted"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("min_clip_s", -0.1, "min_clip_s must be at least 0, got -0.1"),
        ("max_clip_s", 0.5, "max_clip_s must be above min_clip_s = 0.5, got 0.5"),
        ("silence_dbfs", 0.1, "silence_dbfs must be in [-1000, 0], got 0.1"),
        ("still_levels", -1.0, "still_levels must be in [0, 255], got -1.0"),
        ("still_levels", 255.5, "still_levels must be in [0, 255], got 255.5"),
        ("apart_s", -1.0, "apart_s must be at least 0, got -1.0"),
        ("cut_short_s", -1.0, "cut_short_s must be at least 0, got -1.0"),
    ],
)
def test_limits_outside_their_range(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Audit(**{name: value})
