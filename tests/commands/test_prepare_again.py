"""A folder of shards that was prepared, and what is wrong with its sidecars or its index when it is prepared again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from media import write_clip
from shards import contents, write_shards

from diffmavil import commands
from diffmavil.commands.prepare import prepare
from diffmavil.commands.prepare_pool import PreparingStopped
from diffmavil.data import ManifestSource, ShardSource
from diffmavil.data.audit import Audit
from diffmavil.data.json_files import sealed, unsealed

Sidecar = dict[str, Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ManifestSource:
    root = tmp_path_factory.mktemp("films")
    for k in range(4):
        write_clip(root / f"{k}.mp4", seconds=1.0, hz=300 + 50 * k, size=(48, 32))
    (root / "bad.mp4").write_bytes(b"no film")
    rows = [f"{k}.mp4,{'dog' if k % 2 else 'cat'},train" for k in range(4)]
    (root / "m.csv").write_text("\n".join(["path,label,split", *rows, "bad.mp4,cat,train", ""]))
    return ManifestSource(path=root / "m.csv", label_column="label")


@pytest.fixture(scope="module")
def prepared(source: ManifestSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``diffmavil prepare`` leaves, but for its tables."""
    out = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands.prepare, "start_workers", _stop)
        with pytest.raises(PreparingStopped):
            prepare(source=source, out=out, clips_per_shard=2)
    return write_shards(source, out, audit=Audit(), clips_per_shard=2)


def _stop(*args: Any, **kwargs: Any) -> None:
    raise PreparingStopped


@pytest.fixture
def out(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; to make a shard anew raises PreparingStopped."""
    monkeypatch.setattr(commands.prepare, "start_workers", _stop)
    return Path(shutil.copytree(prepared, tmp_path / "out"))


def again(source: ManifestSource, out: Path) -> None:
    prepare(source=source, out=out, clips_per_shard=2)


def test_an_index_of_before_checksums_is_written_anew_from_the_sidecars(source: ManifestSource, out: Path) -> None:
    before = list(ShardSource(root=out).clips())
    path = out / "index" / "names.json"
    names = unsealed(json.loads(path.read_text())) | {"format_version": 2}
    del names["array_crc32"]
    path.write_text(json.dumps(names))
    with pytest.raises(
        ValueError, match="the same `diffmavil prepare` as before writes the index anew, from the shards"
    ):
        ShardSource(root=out).clips()
    tars = contents(out / "sidecars")
    again(source, out)
    assert list(ShardSource(root=out).clips()) == before and contents(out / "sidecars") == tars


def test_sidecars_of_before_checksums_serve(source: ManifestSource, out: Path) -> None:
    for path in (out / "sidecars").iterdir():
        path.write_text(json.dumps(unsealed(json.loads(path.read_text()))))
    again(source, out)
    assert len(list(ShardSource(root=out).clips())) == 4


def _in(*keys: str | int, value: Any) -> Callable[[Sidecar], Sidecar]:
    """Put a value in, with the right checksum; ``...`` removes it."""

    def change(sidecar: Sidecar) -> Sidecar:
        inner: Any = unsealed(sidecar)
        whole = inner
        for key in keys[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        return sealed(whole)

    return change


FIELDS: dict[str, tuple[Any, ...]] = {
    "path": (..., None, 3, "other.mp4", ["a"]),
    "split": (..., None, "test", "x", 1),
    "labels": (..., None, [], ["dog"], ["x"], "cat", [["cat"]], 3),
    "fold": (..., 1, "x", -7, 2**40),
    "start_s": (..., 0.5, "x", [1.0], float("nan"), -1.0),
    "end_s": (..., 0.5, "x", float("inf")),
    "duration_s": (..., None, "x", -1.0, float("nan"), 1e300),
    "audio_s": (..., None, "x", [], [0.0], [1.0, 0.0], [0.0, 1.0, 2.0], [None, 1.0], [0.0, 1e300]),
    "video_s": (..., None, "x", [], [1.0, 0.0], [float("nan"), 1.0]),
    "position": (..., None, 1, -1, 99, "x", [], 2**70),
    "offset": (..., None, 512, -512, 2**70, "x", 1.5),
    "json_size": (..., None, 0, -1, 2**32, 2**31, "x"),
    "flac_size": (..., None, 0, -1, 2**32, 2**31, "x"),
    "flac_crc": (..., None, -1, 2**32, "x"),
    "frame_sizes": (..., None, [], [1], [0, 0, 0, 0], [2**31] * 4, [2**40] * 4, ["x"] * 4, 4, {"a": 1}),
    "frame_crcs": (..., None, [], [1], [2**40] * 4, ["x"] * 4, 4),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_sidecar_that_is_wrong_makes_its_shard_anew(field: str, source: ManifestSource, out: Path) -> None:
    path = out / "sidecars" / "shard-000000.json"
    whole = json.loads(path.read_text())
    for value in FIELDS[field]:
        path.write_text(json.dumps(_in("clips", 0, field, value=value)(json.loads(json.dumps(whole)))))
        with pytest.raises(PreparingStopped):
            again(source, out)
    path.write_text(json.dumps(whole))
    again(source, out)


WHOLE: dict[str, Callable[[Sidecar], Any]] = {
    "label without its checksum": lambda sidecar: (
        sidecar | {"clips": _in("clips", 0, "labels", value=["dog"])(sidecar)}
    ),
    "another checksum": lambda sidecar: sidecar | {"crc32": sidecar["crc32"] ^ 1},
    "a list": lambda sidecar: [],
    "nothing": lambda sidecar: {},
    "no clips": _in("clips", value=...),
    "clips of numbers": _in("clips", value=[1, 2]),
    "clips of text": _in("clips", value="ab"),
    "one clip": _in("clips", 0, value=...),
    "a clip twice": lambda sidecar: sealed(unsealed(sidecar) | {"clips": sidecar["clips"][:1] * 2}),
    "other size": _in("tar_bytes", value=1024),
    "size as text": _in("tar_bytes", value="1024"),
    "something more": _in("more", value=1),
    "rejected of numbers": _in("rejected", value=[1]),
    "rejected without fields": _in("rejected", value=[{}]),
    "rejected too many": _in("rejected", value=[dict.fromkeys(("start_s", "end_s"))]),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_sidecar_of_another_kind_makes_its_shard_anew(what: str, source: ManifestSource, out: Path) -> None:
    path = out / "sidecars" / "shard-000000.json"
    path.write_text(json.dumps(WHOLE[what](json.loads(path.read_text()))))
    with pytest.raises(PreparingStopped):
        again(source, out)


def test_every_flipped_bit_of_a_sidecar_is_noticed(source: ManifestSource, out: Path) -> None:
    path = out / "sidecars" / "shard-000000.json"
    whole = path.read_bytes()
    for k in range(40):
        at = len(whole) * k // 40
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << k % 7)]) + whole[at + 1 :])
        with pytest.raises(PreparingStopped):
            again(source, out)


@pytest.mark.parametrize("file", ["prepare.json", "sidecars/shard-000000.json", ".lock"])
@pytest.mark.parametrize("kind", ["pipe", "deep", "device"])
def test_special_files_neither_hang_nor_burst(kind: str, file: str, source: ManifestSource, out: Path) -> None:
    path = out / file
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"[" * 100_000)
    if file == ".lock":  # nobody looks into it
        again(source, out)
    else:
        with pytest.raises((OSError, ValueError, PreparingStopped)):
            again(source, out)


def test_nothing_is_written_through_a_link(source: ManifestSource, out: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("clips.npy", "names.json"):
        (out / "index" / f"{name}.part").symlink_to(victim)
    os.mkfifo(out / "index" / "paths.npy.part")
    again(source, out)
    assert victim.read_text() == "mine" and len(list(ShardSource(root=out).clips())) == 4
