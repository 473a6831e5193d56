"""Shards are whole or not there."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from diffmavil.data.shards.encode import EncodedClip
from diffmavil.data.shards.sidecar import read_sidecar
from diffmavil.data.shards.writer import ShardWriter

CLIP = EncodedClip({"path": "a.b c/ü.mp4", "labels": []}, b"sound", [b"picture"] * 3)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    whole = ShardWriter(tmp_path, 0)
    whole.add(0, CLIP)
    sidecar = whole.finish()
    before = (tmp_path / "shard-000000.tar").read_bytes()
    again = ShardWriter(tmp_path, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match="File too large; finished shards are kept.*shard-000000.tar.part"):
            again.add(0, CLIP)
            again.finish()
        again.abandon()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-000000.tar", "sidecars"]
    assert (tmp_path / "shard-000000.tar").read_bytes() == before
    assert read_sidecar(tmp_path, 0) == sidecar


@pytest.mark.parametrize("damage", ["cut the tar", "remove the tar", "cut the sidecar", "remove the sidecar"])
def test_what_is_not_whole_is_to_be_written_again(tmp_path: Path, damage: str) -> None:
    writer = ShardWriter(tmp_path, 7)
    writer.add(7, CLIP)
    writer.finish()
    assert read_sidecar(tmp_path, 7) is not None
    tar, sidecar = tmp_path / "shard-000007.tar", tmp_path / "sidecars" / "shard-000007.json"
    path = tar if damage.endswith("tar") else sidecar
    if damage.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    assert read_sidecar(tmp_path, 7) is None


def test_a_sidecar_is_written_when_the_disk_has_the_shard(tmp_path: Path, disk: list[str]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    writer = ShardWriter(folder, 0)
    writer.add(0, CLIP)
    writer.finish()
    shard = ["sync shard-000000.tar.part", "name shard-000000.tar", "sync out"]
    sidecar = ["sync shard-000000.json.part", "name shard-000000.json", "sync sidecars"]
    assert disk == [*shard, "sync out", *sidecar], "the second time for the folder of sidecars"


def test_a_shard_that_cannot_be_put_in_its_place_has_no_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    writer = ShardWriter(tmp_path, 0)
    writer.add(0, CLIP)
    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="finished shards are kept"):
        writer.finish()
    assert not list(tmp_path.rglob("*.json*"))


def test_keys_hold_no_dots_and_no_folders(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 0)
    writer.add(3, EncodedClip({"path": "../x/..v1.2.mp4", "labels": []}, b"", [b"picture"]))
    sidecar = writer.finish()
    names = (tmp_path / "shard-000000.tar").read_bytes()
    assert names.startswith(b"00000003__v1_2.json\0")
    assert sidecar.clips[0]["offset"] == 0 and b"/" not in names[:100]
