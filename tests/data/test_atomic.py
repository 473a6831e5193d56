"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from diffmavil.data.atomic import whole_file


def test_folders_and_file_are_confirmed_before_what_depends_on_them(tmp_path: Path, disk: list[str]) -> None:
    with whole_file(tmp_path / "a" / "b" / "c.json") as file:
        file.write(b"new")
        assert [path.name for path in tmp_path.rglob("*.*")] == ["c.json.part"]
    assert disk == [f"sync {tmp_path.name}", "sync a", "sync c.json.part", "name c.json", "sync b"]
    assert [path.read_bytes() for path in tmp_path.rglob("*.*")] == [b"new"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("c.json", "old")]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_some_file_systems_do_not_confirm_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fsync = os.fsync

    def _fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", _fsync)
    path = tmp_path / "c.json"
    if number == errno.EINVAL:
        with whole_file(path) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"
    else:
        with pytest.raises(OSError, match="Input/output error"), whole_file(path) as file:
            file.write(b"new")
