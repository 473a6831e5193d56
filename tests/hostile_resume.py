"""Gives every checkpoint of ``hostile_checkpoints.py`` to the real commands, each in a process of its own.

PYTHONPATH=tests python tests/hostile_resume.py FOLDER [N, for every N-th of them]

It prints what came of each, and a table. A command is *right* if it does what it does with the good checkpoint: the
same weights after two more steps, the same numbers in ``test`` and ``predict``.
"""

from __future__ import annotations

import collections
import os
import re
import resource
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import hostile_checkpoints
import numpy as np
import torch

import diffmavil.commands.train  # noqa: F401  before the forks, not in each
from diffmavil import cli
from diffmavil.commands.synth import synth
from diffmavil.models import builders

LIMIT_S: Final = 60
LIMIT_GIB: Final = 6
OUTCOMES: Final = (
    "refused in one line",
    "right",
    "right, with a line",
    "taken silently",
    "traceback",
    "hang",
    "crash",
    "executed",
    "deleted something",
)

CONFIG = """
trainer:
  accelerator: cpu
  max_steps: 6
  max_epochs: 2
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  logger: false
  default_root_dir: {run}
  num_sanity_val_steps: 0
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        {{dirpath: {run}/checkpoints, save_last: true, every_n_train_steps: 1, save_top_k: 2, monitor: train/loss}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{dirpath: {run}/checkpoints, every_n_train_steps: 2, filename: "own-{{step}}"}}
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {{monitor: train/loss, patience: 100}}
    - class_path: ComputeAccounting
model:
  class_path: PretrainModule
  init_args: {{model: {{class_path: diffmavil.models.diffmavil, init_args: {{size: nano}}}}}}
data:
  source: {{class_path: ManifestSource, init_args: {{path: {data}/manifest.csv, label_column: label}}}}
  batch_size: 5
  num_workers: 0
  clip_s: 0.48
  num_mel_bins: 32
  num_frames: 4
  fps: 10.0
  image_size: 32
"""

PROBE = """
trainer: {{accelerator: cpu, logger: false, enable_progress_bar: false, enable_model_summary: false}}
model:
  class_path: LinearProbe
  init_args: {{backbone: {{class_path: diffmavil.models.diffmavil, init_args: {{size: nano}}}}}}
data:
  source: {{class_path: ManifestSource, init_args: {{path: {data}/manifest.csv, label_column: label}}}}
  test_splits: [train, test]
  batch_size: 5
  num_workers: 0
  clip_s: 0.48
  num_mel_bins: 32
  num_frames: 4
  fps: 10.0
  image_size: 32
"""


def call(args: list[str], said: Path) -> int | str:
    """Exit code of a command in a fork of this process, or ``hang``."""
    child = os.fork()
    if not child:
        with said.open("w") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        limit = LIMIT_GIB * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = 1
        try:
            code = cli.main(args)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hang"


class Commands:
    """The commands, what they do with the good checkpoint, and a folder in which they are given the others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        if not self.data.exists():
            synth(out=self.data, clips=40, seed=3, clip_s=1.5, size_px=48, fps=8, workers=1)
        self.case = folder / "case"
        self.empty()
        code = call([*self.fit(None), "--trainer.max_steps", "4"], folder / "said.txt")
        assert code == 0, (folder / "said.txt").read_text()
        self.good = folder / "good.ckpt"
        shutil.copy(self.run / "checkpoints" / "last.ckpt", self.good)
        self.neighbours = folder / "neighbours"
        shutil.rmtree(self.neighbours, ignore_errors=True)
        shutil.copytree(self.run / "checkpoints", self.neighbours)
        self.expected = {}
        for name in ("fit", "test", "predict", "probe"):
            checkpoint = self.empty()
            shutil.copy(self.good, checkpoint)
            assert call(self.args(name, checkpoint), self.said) == 0, self.said.read_text()
            self.expected[name] = self.result(name)

    @property
    def run(self) -> Path:
        return self.case / "run"

    @property
    def said(self) -> Path:
        return self.case / "said.txt"

    def empty(self) -> Path:
        """Make the folder anew; gives the place of the checkpoint."""
        shutil.rmtree(self.case, ignore_errors=True)
        for victim in ("victim", "victim.ckpt"):
            (self.run / victim).mkdir(parents=True)
            (self.run / victim / "thesis.txt").write_text("years of work")
        if hasattr(self, "neighbours"):
            shutil.copytree(self.neighbours, self.run / "checkpoints")
            (self.run / "checkpoints" / "last.ckpt").unlink()
        (self.case / "run.yaml").write_text(CONFIG.format(run=self.run, data=self.data))
        (self.case / "probe.yaml").write_text(PROBE.format(data=self.data))
        return self.run / "checkpoints" / "last.ckpt"

    def fit(self, checkpoint: Path | None) -> list[str]:
        return self._with("fit", checkpoint)

    def _with(self, command: str, checkpoint: Path | None) -> list[str]:
        args = [command, "--config", str(self.case / "run.yaml")]
        return args if checkpoint is None else [*args, "--ckpt_path", str(checkpoint)]

    def args(self, name: str, checkpoint: Path) -> list[str]:
        if name == "probe":
            return ["test", "--config", str(self.case / "probe.yaml"), "--model.checkpoint", str(checkpoint)]
        return self._with(name, checkpoint)

    def result(self, name: str) -> object:
        """What a command came to: numbers that are equal if it did the same."""
        if name == "fit":
            last = max((self.run / "checkpoints").glob("last*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
            content = torch.load(last, weights_only=True)
            moments = [value for s in content["optimizer_states"][0]["state"].values() for value in s.values()]
            values = [*content["state_dict"].values(), *moments]
            return content["global_step"], [float(x.double().sum()) for x in values]
        if name == "predict":
            with np.load(self.run / "predictions.npz") as arrays:
                return {key: repr(arrays[key].tolist()) for key in arrays.files}  # NaN is not itself
        return [line for line in self.said.read_text().splitlines() if re.search(r"\d\.\d", line) and "test" in line]

    def outcome(self, case: hostile_checkpoints.Case, name: str) -> tuple[str, str]:
        """Give a checkpoint to a command; what came of it, and the last line."""
        checkpoint = self.empty()
        case.make(self.good, checkpoint)
        code = call(self.args(name, checkpoint), self.said)
        text = self.said.read_text(errors="replace")
        line = (text.splitlines() or [""])[-1]
        if (self.run / "executed").exists():
            return "executed", line
        if any(not (self.run / victim / "thesis.txt").exists() for victim in ("victim", "victim.ckpt")):
            return "deleted something", line
        if code == "hang" or (isinstance(code, int) and code < 0):
            return ("hang" if code == "hang" else "crash"), f"{code} {line}"
        if code == 0:
            if self.result(name) != self.expected[name]:
                return "taken silently", line
            told = [row for row in text.splitlines() if "forgotten" in row or "as it was" in row]
            return ("right, with a line", told[0]) if told else ("right", "")
        short = code == 2 and line.startswith("diffmavil: error: ") and len(line) < 500 and "Traceback" not in text
        return ("refused in one line" if short else "traceback"), line


def table(rows: list[tuple[str, str]], files: dict[str, int]) -> str:
    """One row a kind, one column an outcome."""
    counts = collections.Counter(rows)
    lines = [["", "files", "calls", *OUTCOMES], ["---"] * (len(OUTCOMES) + 3)]
    for kind, number in files.items():
        numbers = [counts[kind, outcome] for outcome in OUTCOMES]
        lines.append([kind, str(number), str(sum(numbers)), *(str(n or "") for n in numbers)])
    totals = [sum(outcome == column for _, outcome in rows) for column in OUTCOMES]
    lines.append(["together", str(sum(files.values())), str(len(rows)), *(str(n) for n in totals)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(folder: Path, every: int = 1) -> None:
    torch.set_num_threads(1)
    # so that each of many files is a small one
    builders.SIZES["nano"] = replace(
        builders.SIZES["nano"], embed_dim=32, depth=1, decoder_embed_dim=32, decoder_depth=1
    )
    folder.mkdir(exist_ok=True)
    commands = Commands(folder.resolve())
    cases = hostile_checkpoints.cases()[::every]
    rows = []
    for k, case in enumerate(cases):
        # what a training reads is nothing to the others; of a few it is seen
        more = (("test", "predict", "probe")[k % 3],) if case.weights or k % 7 == 0 else ()
        for name in ("fit", *more):
            start = time.monotonic()
            outcome, line = commands.outcome(case, name)
            rows.append((case.kind, outcome))
            print(
                case.kind,
                ascii(case.name),
                name,
                outcome,
                f"{time.monotonic() - start:.1f}",
                line,
                sep="\t",
                flush=True,
            )
    print(f"\n{table(rows, dict(collections.Counter(case.kind for case in cases)))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
