"""Windows of a clip, taken together."""

from __future__ import annotations

import torch

from diffmavil.ops.windows import first_windows, mean_of_windows


def test_a_clip_has_the_mean_of_its_windows() -> None:
    index = torch.tensor([4, 4, 2, 9, 9, 9])
    values = torch.randn(6, 3)
    rows = [[0, 1], [2], [3, 4, 5]]
    expected = torch.stack([sum((values[k] for k in part), torch.zeros(3)) / len(part) for part in rows])
    torch.testing.assert_close(mean_of_windows(values, index), expected)
    assert index[first_windows(index)].tolist() == [4, 2, 9]


def test_no_clips() -> None:
    nothing = torch.empty(0, dtype=torch.long)
    assert mean_of_windows(torch.empty(0, 3), nothing).shape == (0, 3) and first_windows(nothing).shape == (0,)
