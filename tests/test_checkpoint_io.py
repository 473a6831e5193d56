"""Checkpoint files are whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from diffmavil.checkpoint_io import AtomicCheckpointIO

FULL_DISK = """
import resource, sys, torch
from pathlib import Path
from diffmavil.checkpoint_io import AtomicCheckpointIO

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # no file may grow beyond this
try:
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(100_000)}, Path(sys.argv[1]))
except OSError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "some" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(10)}, path)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert "File too large; what was there is kept" in done.stdout and str(path) in done.stdout
    assert torch.equal(torch.load(path)["x"], torch.zeros(10))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.partial").write_bytes(b"half")
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(10)}, tmp_path / "last.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(torch.load(tmp_path / "last.ckpt")["x"], torch.ones(10))
