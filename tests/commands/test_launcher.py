"""Processes that watch the one that started them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import time
from diffmavil.commands.launcher import end_with_launcher
end_with_launcher(every_s=0.05)
time.sleep(0.5)
"""


@pytest.mark.parametrize("launcher", ["this", "another"])
def test_a_process_whose_launcher_lives_or_is_another_stays(launcher: str) -> None:
    pid = os.getpid() if launcher == "this" else 1
    env = os.environ | {"LOCAL_RANK": "1", "DIFFMAVIL_LAUNCHER_PID": str(pid)}
    assert subprocess.run([sys.executable, "-c", CHILD], env=env).returncode == 0
