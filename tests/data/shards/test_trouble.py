"""What a power cut, a killed process or a server that hangs leave of what is fetched from far away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from media import frames_of, write_clip
from shards import write_shards
from web import Ranges, serving

from diffmavil.data import FolderSource, MediaError, ShardSource

CLIPS = 4


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    for k in range(CLIPS):
        write_clip(root / f"{k}.mp4", seconds=1.0, hz=300 + 50 * k, size=(96, 64))
    return root


@pytest.fixture
def shards(films: Path, tmp_path: Path) -> Path:
    return write_shards(FolderSource(root=films), tmp_path / "web" / "shards", clips_per_shard=2)


@pytest.fixture
def url(shards: Path) -> Iterator[str]:
    with serving(shards.parent) as address:
        yield f"{address}/shards"


def read(source: ShardSource, timeout_s: float = 30.0) -> list[str]:
    """What is wrong with each clip; nothing where it can be read."""
    wrong = []
    for clip in source.clips():
        try:
            with source.open(clip, timeout_s=timeout_s) as media:
                media.audio(0.0, 1.0, 16000)
                frames_of(media, [0.0, 0.9])
            wrong.append("")
        except MediaError as error:
            wrong.append(error.reason)
    return wrong


def tars() -> list[str]:
    return [path.rpartition("/")[2] for path, _ in Ranges.asked if path.endswith(".tar")]


@pytest.mark.parametrize("left", [0, 700])
def test_a_kept_shard_that_a_power_cut_cut_short_is_fetched_again(url: str, tmp_path: Path, left: int) -> None:
    cache = tmp_path / "cache"
    assert read(ShardSource(root=url, cache_dir=cache, cache_gb=1.0)) == [""] * CLIPS
    torn = next(cache.rglob("shard-000001.tar"))
    whole = torn.read_bytes()
    torn.write_bytes(whole[:left])
    Ranges.asked.clear()
    for _ in range(2):
        assert read(ShardSource(root=url, cache_dir=cache, cache_gb=1.0)) == [""] * CLIPS
    assert tars() == ["shard-000001.tar"] and torn.read_bytes() == whole


def test_a_shard_that_is_cut_short_far_away_is_fetched_once(shards: Path, url: str, tmp_path: Path) -> None:
    tar = shards / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-5000])
    source = ShardSource(root=url, cache_dir=tmp_path / "cache", cache_gb=1.0)
    for _ in range(2):
        assert read(source) == ["", "", "", "cannot be decoded"]
    assert tars() == ["shard-000000.tar", "shard-000001.tar"]


@pytest.mark.parametrize("name", ["names.json", "clips.npy", "paths.npy"])
@pytest.mark.parametrize("left", [0, 50, None])
def test_a_damaged_copy_of_the_index_is_fetched_again(url: str, tmp_path: Path, name: str, left: int | None) -> None:
    cache = tmp_path / "cache"
    list(ShardSource(root=url, cache_dir=cache).clips())
    path = next(cache.rglob(name))
    whole = path.read_bytes()
    if left is None:
        path.unlink()
    else:
        path.write_bytes(whole[:left])
    assert len(list(ShardSource(root=url, cache_dir=cache).clips())) == CLIPS
    assert path.read_bytes() == whole
    Ranges.asked.clear()
    list(ShardSource(root=url, cache_dir=cache).clips())
    assert len(Ranges.asked) == 1, "an index is fetched once"


def test_an_index_that_is_damaged_far_away(shards: Path, url: str, tmp_path: Path) -> None:
    path = shards / "index" / "clips.npy"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"root must hold an index .*, got http.*the index is damaged.*\(sizes differ"):
        ShardSource(root=url, cache_dir=tmp_path / "cache").clips()


def test_what_is_fetched_has_its_name_when_the_disk_has_it(url: str, tmp_path: Path, disk: list[str]) -> None:
    read(ShardSource(root=url, cache_dir=tmp_path / "cache", cache_gb=1.0))
    folder = next((tmp_path / "cache").iterdir()).name
    for name in ("shard-000000.tar", "shard-000001.tar", "clips.npy", "paths.npy", "names.json"):
        at = disk.index(f"name {name}")
        assert disk[at - 1].startswith(f"sync {name}.") and disk[at - 1].endswith(".part")
        assert disk[at + 1] == f"sync {folder if name.endswith('.tar') else 'index'}"
    named = [event for event in disk if event.startswith("name ")]
    assert named[4] == "name names.json", "an index is whole or not there"


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_a_server_that_hangs_times_out_and_leaves_nothing(url: str, tmp_path: Path, cache_gb: float) -> None:
    cache = tmp_path / "cache"
    source = ShardSource(root=url, cache_dir=cache, cache_gb=cache_gb)
    clip = next(iter(source.clips()))
    Ranges.hang = threading.Event()
    began_s = time.monotonic()
    with source.open(clip, timeout_s=0.3) as media:
        with pytest.raises(MediaError, match=r"shard-000000.tar/00000000_0: timed out \(not done after 0.3 s\)"):
            media.audio(0.0, 1.0, 16000)
    assert time.monotonic() - began_s < 3.0 and len(tars()) == 1
    assert not list(cache.rglob("shard*"))
    Ranges.hang.set()
    Ranges.hang = None
    assert read(source) == [""] * CLIPS


def test_a_clip_has_one_limit_for_all_that_is_read_of_it(url: str, tmp_path: Path) -> None:
    source = ShardSource(root=url, cache_dir=tmp_path / "cache")
    clip = next(iter(source.clips()))
    Ranges.wait_s = 0.4
    with source.open(clip, timeout_s=0.6) as media:
        media.audio(0.0, 1.0, 16000)
        with pytest.raises(MediaError, match="timed out"):
            frames_of(media, [0.0])
    with pytest.raises(ValueError, match="timeout_s must be positive, got 0"):
        source.open(clip, timeout_s=0.0)


def test_nothing_is_tried_again_when_no_time_is_left(url: str, tmp_path: Path) -> None:
    source = ShardSource(root=url, cache_dir=tmp_path / "cache")
    clip = next(iter(source.clips()))
    Ranges.failures = 9
    began_s = time.monotonic()
    with source.open(clip, timeout_s=0.4) as media, pytest.raises(MediaError, match=r"cannot be opened \(503"):
        media.audio(0.0, 1.0, 16000)
    assert time.monotonic() - began_s < 0.4 and len(tars()) == 1


def test_a_whole_shard_may_take_longer_than_a_clip(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffmavil.data.shards.remote._PART_BYTES", 4096)
    source = ShardSource(root=url, cache_dir=tmp_path / "cache", cache_gb=1.0)
    list(source.clips())
    Ranges.wait_s = 0.1
    began_s = time.monotonic()
    assert read(source, timeout_s=0.4) == [""] * CLIPS
    assert time.monotonic() - began_s > 2 * 0.4 and len(tars()) > 8


def test_a_shard_is_fetched_by_one_process_while_others_wait(url: str, tmp_path: Path) -> None:
    sources = [ShardSource(root=url, cache_dir=tmp_path / "cache", cache_gb=1.0) for _ in range(3)]
    for source in sources:
        list(source.clips())
    Ranges.wait_s = 0.2
    found: list[list[str]] = []
    readers = [threading.Thread(target=lambda source=source: found.append(read(source))) for source in sources]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [[""] * CLIPS] * 3 and sorted(tars()) == ["shard-000000.tar", "shard-000001.tar"]


def test_what_killed_processes_left_is_removed_and_what_others_write_counts(url: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    list(ShardSource(root=url, cache_dir=cache).clips())
    folder = next(cache.iterdir())
    old, new = (folder / f"shard-{number:06d}.tar.4711.part" for number in (7, 8))
    for path in (old, new):
        path.write_bytes(bytes(100_000))
    os.utime(old, (time.time() - 5000,) * 2)
    os.utime(new, (time.time() + 60,) * 2)  # it is being written all the while
    assert read(ShardSource(root=url, cache_dir=cache, cache_gb=1e-4)) == [""] * CLIPS
    assert sorted(path.name for path in folder.glob("shard*")) == ["shard-000001.tar", new.name]
    (folder / "index" / "clips.npy.4711.part").write_bytes(bytes(9))
    (folder / "index" / "names.json").write_bytes(b"")
    list(ShardSource(root=url, cache_dir=cache).clips())
    assert not list(folder.glob("index/*.part"))
