"""Storage that is gone is told from clips that are bad, wherever clip after clip is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import write_clip

from diffmavil.data import Clip, ClipDataModule, ClipSource, MediaError, dataset, lost
from diffmavil.data.lost import LostInARow
from diffmavil.data.media import TIMEOUT_S, Media

SMALL = {"batch_size": 4, "num_workers": 0, "clip_s": 0.5, "num_frames": 2, "fps": 4.0, "image_size": 16}


class Hole(ClipSource):
    """Many clips that are one file; of some, nothing can be had.

    Args:
        path: The file.
        count: How many clips.
        lost: Of which.
        reason: What is wrong with them.
    """

    def __init__(self, *, path: Path, count: int, lost: range, reason: str = "cannot be opened") -> None:
        self.path, self.count, self.lost, self.reason, self.opened = str(path), count, lost, reason, 0

    def clips(self) -> list[Clip]:
        return [Clip(self.path, split="test", row=k) for k in range(self.count)]

    def open(self, clip: Clip, *, timeout_s: float = TIMEOUT_S) -> Media:
        self.opened += 1
        if clip.row in self.lost:
            raise MediaError(clip.path, self.reason, f"number {clip.row}")
        return super().open(clip, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "a.mp4", seconds=0.5, size=(32, 32))


@pytest.mark.parametrize("reason", ["missing file", "cannot be opened", "timed out"])
def test_so_many_in_a_row_or_fewer_slow_ones(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(lost, "monotonic", lambda: now_s)
    quick, slow, never = LostInARow(256), LostInARow(256), LostInARow(None)
    for _ in range(255):
        quick.note(reason)
    assert not quick.is_gone
    quick.note("cannot be decoded")
    assert quick.count == 0, "a bad clip is there"
    for k in range(300):
        assert quick.is_gone == (k >= 256)
        quick.note(reason)
    quick.note(None)
    assert not quick.is_gone and quick.count == 0
    for k in range(9):
        assert slow.is_gone == (k >= 8)
        now_s += 8.0
        slow.note(reason)
        never.note(reason)
    assert slow.is_gone and not never.is_gone


@pytest.mark.parametrize("reason", ["missing file", "cannot be opened", "timed out"])
def test_start_up_does_not_try_a_million_clips(reason: str, film: Path) -> None:
    source = Hole(path=film, count=3000, lost=range(3000), reason=reason)
    data = ClipDataModule(source=source, **SMALL)
    rule = f"none of 256 of the 3000 clips .*: the storage seems to be gone; the last: .*a.mp4: {reason} .number "
    with pytest.raises(ValueError, match=rule):
        data.setup("test")
    assert source.opened == 256


def test_start_up_looks_past_a_hole(film: Path) -> None:
    source = Hole(path=film, count=3000, lost=range(2000))
    ClipDataModule(source=source, **SMALL).setup("test")
    assert source.opened < 50, "others are tried at random"
    bad = Hole(path=film, count=1500, lost=range(1500), reason="cannot be decoded")
    with pytest.raises(ValueError, match="none of 1000 of the 1500 clips can be read .*; the first: .*number 0"):
        ClipDataModule(source=bad, **SMALL).setup("test")


def test_an_evaluation_ends_where_the_storage_goes_but_not_at_a_hole(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MOST_LOST", 5)
    source = Hole(path=film, count=40, lost=range(4, 20))
    data = ClipDataModule(source=source, **SMALL)
    data.setup("test")
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert sum(len(batch.index) for batch in batches) == 24 and len(data.skipped) == 16
    source.lost = range(8, 40)
    whole = ClipDataModule(source=source, **SMALL)
    whole.setup("test")
    loader, source.lost = iter(whole.test_dataloader()), range(40)
    with pytest.raises(MediaError, match=r"number \d+; nor can others that were tried be read: is the storage gone"):
        for batch in loader:
            whole.on_before_batch_transfer(batch, 0)
