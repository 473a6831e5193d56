from __future__ import annotations

from typing import Any

import pytest

from diffmavil.window import Window

VALUES: dict[str, Any] = {
    "clip_s": 2.56,
    "sample_rate_hz": 16000,
    "num_mel_bins": 64,
    "frame_shift_ms": 10.0,
    "audio_mean": -4.2,
    "audio_std": 3.5,
    "num_frames": 8,
    "fps": 4.0,
    "image_size": 32,
    "short_side": 40,
}


def test_a_window_survives_its_dict_and_is_told_from_another() -> None:
    window = Window.from_dict(dict(VALUES), "its window")
    assert window.as_dict() == VALUES
    assert window.differences(window, "audio_video") == []
    other = Window(**VALUES | {"clip_s": 10.24, "fps": 2.0})
    assert window.differences(other, "audio_video") == ["clip_s is 2.56, not 10.24", "fps is 4, not 2"]
    assert window.differences(other, "audio") == ["clip_s is 2.56, not 10.24"]
    assert window.differences(other, "video") == ["fps is 4, not 2"]


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {**VALUES, "more": 1},
        {key: value for key, value in VALUES.items() if key != "fps"},
        *({**VALUES, key: value} for key in VALUES for value in (float("nan"), float("inf"), "1", None, True, [1])),
        *({**VALUES, key: value} for key in VALUES if key != "audio_mean" for value in (0, -1)),
        {**VALUES, "num_frames": 8.5},
    ],
)
def test_nothing_in_a_window_is_trusted(values: Any) -> None:
    with pytest.raises(ValueError, match="its window"):
        Window.from_dict(values, "its window")
