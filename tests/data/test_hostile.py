"""Broken, strange and hostile files: each gives what it should or is named with a reason, and no worker ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import hostile
import hostile_epoch
import hostile_read
import pytest

from diffmavil.data.errors import REASONS

FORMATS_WITHOUT_CHECKS = (".wav", ".webm")
"""Every sequence of bits is a sound in PCM and Opus, or a picture in VP9: nobody can tell that some were flipped."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    subprocess.run([sys.executable, str(Path(hostile.__file__)), str(folder)], check=True, timeout=200)
    return folder


def test_every_file_is_read_rightly_or_named(folder: Path) -> None:
    command = [sys.executable, str(Path(hostile_read.__file__)), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert len(rows) == 200
    for group, name, must_read, has_like, what, _, seconds, _ in rows:
        assert float(seconds) < hostile_read.TIMEOUT_S, name
        if must_read == "True":
            assert what == hostile_read.WHOLE, name
        if has_like == "False":
            assert what in REASONS, name
        if what == hostile_read.OTHER:
            assert group in ("bits flipped", "headers zeroed"), name
            assert name.endswith(FORMATS_WITHOUT_CHECKS), name
    before, after = map(int, re.findall(r"(\d+) MiB", done.stdout)[-2:])
    assert after - before < 100


def test_an_epoch_of_which_a_fifth_is_hostile(folder: Path) -> None:
    cases = hostile.made(folder)[::5]
    done = hostile_epoch.epoch(hostile_epoch.mix(folder / "mixed", cases, 4))
    assert len(done.asked) == len(done.read) == 200, "another clip takes the place of one that cannot be read"
    assert all(skip.reason in REASONS and "hostile" in Path(skip.path).name for skip in done.skips)
    never = {f"{k}_hostile{case.path.suffix}" for k, case in enumerate(cases) if case.like is None}
    assert never and not never & set(done.read)
    assert never <= {Path(skip.path).name for skip in done.skips}
    assert {name for name in done.asked if "good" in name} <= set(done.read)
