"""Shards behind a web server and in an S3 bucket, against the same ones on disk."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media import frames_of, write_clip
from shards import ROOT, write_shards
from web import Greedy, Plain, Ranges, serving

from diffmavil.data import ClipDataModule, FolderSource, MediaError, ShardSource

CLIPS = 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("remote")
    for k in range(CLIPS):
        write_clip(root / "films" / f"{k}.mp4", seconds=1.0 + k / 10, hz=300 + 50 * k, size=(96, 64))
    return write_shards(FolderSource(root=root / "films"), root / "web" / "shards", clips_per_shard=2)


@pytest.fixture
def http(shards: Path) -> Iterator[str]:
    with serving(shards.parent) as url:
        yield url


def same(source: ShardSource, shards: Path) -> None:
    local = ShardSource(root=shards)
    clips = list(source.clips())
    assert clips == list(local.clips()) and len(clips) == CLIPS
    for clip in clips:
        with source.open(clip) as ours, local.open(clip) as theirs:
            assert ours.info == theirs.info
            assert np.array_equal(frames_of(ours, [0.1, 0.6]), frames_of(theirs, [0.1, 0.6]))
            assert np.array_equal(ours.audio(0.2, 0.5, 16000), theirs.audio(0.2, 0.5, 16000))


def test_http_gives_the_same_and_fetches_only_what_is_wanted(shards: Path, http: str, tmp_path: Path) -> None:
    same(ShardSource(root=f"{http}/shards/", cache_dir=tmp_path), shards)
    parts = [wanted for path, wanted in Ranges.asked if path.endswith(".tar")]
    assert len(parts) == 2 * CLIPS and None not in parts
    assert not list(tmp_path.rglob("*.tar"))
    Ranges.asked.clear()
    same(ShardSource(root=f"{http}/shards", cache_dir=tmp_path), shards)
    assert sum("/index/" in path for path, _ in Ranges.asked) == 1, "an index is fetched once"


def test_an_index_that_was_written_anew_is_fetched_anew(shards: Path, http: str, tmp_path: Path) -> None:
    source = FolderSource(root=shards.parents[1] / "films")
    other = write_shards(source, shards.parent / "other", clips_per_shard=4)
    same(ShardSource(root=f"{http}/other", cache_dir=tmp_path, cache_gb=1.0), other)
    write_shards(source, other, clips_per_shard=3)
    same(ShardSource(root=f"{http}/other", cache_dir=tmp_path, cache_gb=1.0), other)


def test_whole_shards_are_kept_up_to_a_size(shards: Path, http: str, tmp_path: Path) -> None:
    source = ShardSource(root=f"{http}/shards", cache_dir=tmp_path, cache_gb=1.0)
    next(iter(source.clips()))
    left = next(tmp_path.glob("*/index")).with_name("shard-000001.tar.4711.part")
    left.write_text("of a process that was killed")
    same(source, shards)
    assert not left.exists()
    assert sum(path.endswith(".tar") for path, _ in Ranges.asked) == 5, "each is fetched once"
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*.tar")} == {
        p.name: p.read_bytes() for p in shards.glob("*.tar")
    }
    size = max(path.stat().st_size for path in shards.glob("*.tar"))
    with pytest.raises(
        ValueError, match=r"cache_gb must be 0 or at least the two largest shards, [0-9.e-]+, lest .*, got [0-9.e-]+$"
    ):
        next(iter(ShardSource(root=f"{http}/shards", cache_dir=tmp_path, cache_gb=1.1 * size / 1e9).clips()))
    small = ShardSource(root=f"{http}/shards", cache_dir=tmp_path / "small", cache_gb=2.2 * size / 1e9)
    same(small, shards)
    assert sorted(path.name for path in tmp_path.glob("small/**/*.tar")) == ["shard-000003.tar", "shard-000004.tar"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # fsspec leaves the files of its cache open
@pytest.mark.parametrize("cache", ["simplecache", "blockcache"])
def test_fsspecs_own_caches_by_their_urls(shards: Path, http: str, tmp_path: Path, cache: str) -> None:
    options = {cache: {"cache_storage": str(tmp_path / "blocks")}}
    same(ShardSource(root=f"{cache}::{http}/shards", cache_dir=tmp_path, storage_options=options), shards)
    assert len(list((tmp_path / "blocks").iterdir())) >= 5
    gc.collect()


def test_hiccups_are_tried_again_and_what_stays_is_an_error(
    shards: Path, http: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffmavil.data.shards.remote._PAUSES_S", (0.0, 0.0))
    source = ShardSource(root=f"{http}/shards", cache_dir=tmp_path)
    clip = list(source.clips())[4]
    Ranges.failures = 2
    with source.open(clip) as media:
        frames_of(media, [0.0])
        Ranges.failures = 3
        with pytest.raises(MediaError, match=r"shards/shard-000002.tar/00000004_4: cannot be opened \(503"):
            frames_of(media, [0.0])
    with pytest.raises(ValueError, match=r"root must hold an index of shards .*, got http.*nowhere"):
        ShardSource(root=f"{http}/nowhere", cache_dir=tmp_path).clips()
    with pytest.raises(ValueError, match="root must hold an index of shards .*Protocol not known: nopro"):
        ShardSource(root="nopro://bucket/shards", cache_dir=tmp_path).clips()
    with pytest.raises(ValueError, match="cache_gb must be at least 0, got -1"):
        ShardSource(root=f"{http}/shards", cache_gb=-1.0)


def test_a_server_that_knows_no_ranges(shards: Path, tmp_path: Path) -> None:
    with serving(shards.parent, Plain) as url:
        same(ShardSource(root=f"{url}/shards", cache_dir=tmp_path, cache_gb=1.0), shards)
        source = ShardSource(root=f"{url}/shards", cache_dir=tmp_path)
        with source.open(next(iter(source.clips()))) as media, pytest.raises(MediaError, match="set cache_gb"):
            frames_of(media, [0.0])


@pytest.mark.parametrize("how", ["endless", "declared", "packed"])
@pytest.mark.parametrize("of", ["names.json", "clips.npy", ".tar"])
@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_no_more_is_taken_from_a_server_than_was_asked_for(
    of: str, how: str, cache_gb: float, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffmavil.data.shards.remote._PAUSES_S", ())
    monkeypatch.setattr("diffmavil.data.shards.remote.MAX_NAMES_BYTES", 2**22)
    monkeypatch.setattr(Greedy, "of", of)
    monkeypatch.setattr(Greedy, "how", how)
    monkeypatch.setattr(Greedy, "sent", 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(shards.parent, Greedy) as url:
        source = ShardSource(root=f"{url}/shards", cache_dir=tmp_path, cache_gb=cache_gb)
        if of == ".tar":
            with source.open(next(iter(source.clips()))) as media, pytest.raises(MediaError, match="cannot be"):
                media.audio(0.0, 1.0, 16000)
        else:
            with pytest.raises(ValueError, match="root must hold an index of shards that can be read, got http"):
                source.clips()
    assert Greedy.sent < 2**26, "the other side hung up"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2**22


def test_headers_of_ones_own_are_sent_with_every_request(shards: Path, tmp_path: Path) -> None:
    class Locked(Ranges):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") == "Bearer me":
                super().do_GET()
            else:
                self.send_error(403)

    with serving(shards.parent, Locked) as url:
        options = {"headers": {"Authorization": "Bearer me"}}
        same(ShardSource(root=f"{url}/shards", cache_dir=tmp_path, storage_options=options), shards)


def test_a_server_without_shards_ends_a_start_soon(
    shards: Path, http: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffmavil.data.shards.remote._PAUSES_S", (0.0,))
    monkeypatch.setattr("diffmavil.data.lost._MOST_LOST_SLOWLY", (3, 0.0))
    source = ShardSource(root=f"{http}/shards", cache_dir=tmp_path)
    source.clips()
    Ranges.failures = 1000
    data = ClipDataModule(source=source, num_workers=0, clip_s=0.5, num_frames=2, fps=4.0, image_size=32)
    with pytest.raises(ValueError, match=r"none of 3 of the 9 clips .*: the storage seems to be gone; the last: .*503"):
        data.setup("fit")
    assert Ranges.failures == 1000 - 3 * 2


def test_the_folder_for_what_is_fetched_is_this_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ShardSource(root="http://127.0.0.1/shards")
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
    folder.symlink_to("/tmp")
    with pytest.raises(ValueError, match="cache_dir must be given where .* is another user's"):
        ShardSource(root="http://127.0.0.1/shards")


LOADER = """
import sys, torch
from diffmavil.data import ClipDataModule, ShardSource
def batches(source):
    data = ClipDataModule(source=source, batch_size=2, num_workers=2, clip_s=0.5, num_frames=2, fps=4.0, image_size=32)
    data.setup("fit")
    return list(data.train_dataloader())
url, local, cache = sys.argv[1:]
for gb in (0.0, 1.0):
    ours, theirs = batches(ShardSource(root=url, cache_dir=cache, cache_gb=gb)), batches(ShardSource(root=local))
    assert len(ours) == len(theirs) > 2
    for a, b in zip(ours, theirs):
        assert not a.skips and torch.equal(a.index, b.index)
        assert torch.equal(a.waveform, b.waveform) and torch.equal(a.frames, b.frames)
print("same")
"""


@pytest.mark.slow
def test_forked_data_workers_make_connections_of_their_own(shards: Path, http: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADER, f"{http}/shards", shards, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "same\n", done.stderr


def test_a_bucket_of_s3(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="clips")
        for path in shards.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "clips", f"set/{path.relative_to(shards).as_posix()}")
        options = {"client_kwargs": {"endpoint_url": endpoint, "region_name": "us-east-1"}}
        for cache_gb in (0.0, 1.0):
            root, cache = "s3://clips/set", tmp_path / str(cache_gb)
            same(ShardSource(root=root, cache_dir=cache, cache_gb=cache_gb, storage_options=options), shards)
        with pytest.raises(ValueError, match="root must hold an index of shards"):
            ShardSource(root="s3://clips/other", cache_dir=tmp_path, storage_options=options).clips()
    finally:
        server.stop()
