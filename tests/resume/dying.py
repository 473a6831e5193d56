"""``diffmavil`` in a process that writes down every training step and, when told so, dies by SIGKILL.

``python dying.py FOLDER WHERE ARGS...``: steps go into FOLDER; WHERE is ``never``, ``step:N`` (after N optimiser
steps), ``write:N`` (in the middle of the bytes of the N-th checkpoint file) or ``rename:N`` (when that file is
complete, but not yet in its place). All processes of a run die together.
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

from diffmavil import cli

FOLDER, (WHERE, _, COUNT) = Path(sys.argv[1]), sys.argv[2].partition(":")
SAVE, REPLACE = torch.save, Path.replace


def die() -> None:
    os.killpg(0, signal.SIGKILL)


class Recorder(L.Callback):
    """Writes down what each step was made of and what came out."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        record = {
            "epoch": trainer.current_epoch,
            "batch_idx": batch_idx,
            "clips": batch.index.tolist(),
            "loss": outputs["loss"].item().hex(),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "ratios": [pl_module.audio_mask_ratio, pl_module.video_mask_ratio],
        }
        with (FOLDER / f"rank{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps({"step": trainer.global_step, **record}) + "\n")
        if WHERE == "step" and trainer.global_step == int(COUNT):
            trainer.strategy.barrier()  # let the other rank write down its step, too
            die()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            SAVE(pl_module.state_dict(), FOLDER / "weights.pt")


class Saves:
    """Counts checkpoint files, and dies at the N-th."""

    def __init__(self) -> None:
        self.begun = self.complete = 0

    def save(self, content: Any, file: io.BufferedWriter) -> None:
        self.begun += 1
        if WHERE == "write" and self.begun == int(COUNT):
            whole = io.BytesIO()
            SAVE(content, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            die()
        SAVE(content, file)

    def replace(self, path: Path, target: Path) -> Path:
        self.complete += path.suffix == ".partial"
        if WHERE == "rename" and self.complete == int(COUNT):
            die()
        return REPLACE(path, target)


if __name__ == "__main__":
    saves = Saves()
    torch.save = saves.save
    Path.replace = lambda path, target: saves.replace(path, target)  # type: ignore[method-assign]
    sys.exit(cli.main(sys.argv[3:]))
