"""``diffmavil`` in processes that write down every training step and, when told so, die by SIGKILL.

As a script, it reads runs from its input, a line of JSON each, and answers with their exit codes. Each is a fork of it:
what takes seconds to import is imported once, and nothing has begun by then that a fork could break.

    {"folder": F, "where": W, "ranks": R, "args": [...]}

Steps go into F, what is printed into F/said.txt. W is ``never``, ``step:N`` (after N optimiser steps), ``write:N`` (in
the middle of the bytes of the N-th checkpoint file) or ``rename:N`` (when that file is complete, but not yet in its
place). R is 1 or 2; all ranks of a run die together.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from ranks import free_port

import diffmavil.commands.train  # noqa: F401  before the forks, not in each
from diffmavil import cli

SAVE, REPLACE = torch.save, Path.replace


def run(folder: Path, where: str, ranks: int, args: list[str]) -> int:
    """One rank's part of a run, in a process group of its own; the first rank starts the second."""
    os.setsid()
    with (folder / "said.txt").open("w") as said:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(said.fileno(), stream.fileno())
    second = None
    if ranks == 2:  # the variables by which Lightning knows that it need start no others
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port(), WORLD_SIZE="2", NODE_RANK="0")
        second = os.fork()
        os.environ["LOCAL_RANK"] = "0" if second else "1"
    Recorder.folder = folder
    Recorder.kind, _, count = where.partition(":")
    Recorder.count = int(count or 0)
    saves = Saves()
    torch.save = saves.save
    Path.replace = lambda path, target: saves.replace(path, target)  # type: ignore[method-assign]
    code = cli.main(args)
    return (second and os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])) or code


def die() -> None:
    os.killpg(0, signal.SIGKILL)


class Recorder(L.Callback):
    """Writes down what each step was made of and what came out; dies after a step."""

    folder: Path
    kind: str
    count: int

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        record = {
            "epoch": trainer.current_epoch,
            "batch_idx": batch_idx,
            "clips": batch.index.tolist(),
            "loss": outputs["loss"].item().hex(),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "ratios": [pl_module.audio_mask_ratio, pl_module.video_mask_ratio],
        }
        with (self.folder / f"rank{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps({"step": trainer.global_step, **record}) + "\n")
        if self.kind == "step" and trainer.global_step == self.count:
            trainer.strategy.barrier()  # let the other rank write down its step, too
            die()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            SAVE(pl_module.state_dict(), self.folder / "weights.pt")


class Saves:
    """Counts checkpoint files, and dies at the N-th."""

    def __init__(self) -> None:
        self.begun = self.complete = 0

    def save(self, content: Any, file: io.BufferedWriter) -> None:
        self.begun += 1
        if Recorder.kind == "write" and self.begun == Recorder.count:
            whole = io.BytesIO()
            SAVE(content, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            die()
        SAVE(content, file)

    def replace(self, path: Path, target: Path) -> Path:
        self.complete += path.suffix == ".partial"
        if Recorder.kind == "rename" and self.complete == Recorder.count:
            die()
        return REPLACE(path, target)


if __name__ == "__main__":
    sys.modules["dying"] = sys.modules["__main__"]  # the callback is named dying.Recorder
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            sys.exit(run(Path(task["folder"]), task["where"], task["ranks"], task["args"]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
