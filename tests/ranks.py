"""Processes of one run, side by side on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    """This process's, with the package and the tests' helpers in reach, and one thread a process."""
    return {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", **variables}


def run_ranks(*command: str, world: int = 2, timeout_s: float = 240) -> None:
    """Run a Python command once a rank, with the variables by which Lightning knows that it need start no others."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(world), "NODE_RANK": "0"}
    # new processes: what a forked one inherits of torch's threads can make it wait for ever
    processes = [
        subprocess.Popen([sys.executable, *command], env=environment(LOCAL_RANK=str(rank), **shared))
        for rank in range(world)
    ]
    try:
        assert [process.wait(timeout_s) for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()
