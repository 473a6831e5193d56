"""A run that was killed and taken up does what one does that was never killed, bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import ROOT, environment

CONFIG = """
seed_everything: 0
trainer:
  accelerator: cpu
  max_epochs: 4
  reload_dataloaders_every_n_epochs: 1
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  callbacks:
    - class_path: MaskRatioCurriculum
      init_args: {audio: {start: 0.9, end: 0.6}, video: {start: 0.9, end: 0.6}}
    - class_path: AdaptiveBatchSize
    - class_path: ComputeAccounting
    - class_path: dying.Recorder
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, enable_version_counter: false}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, save_top_k: 0, every_n_train_steps: 2, enable_version_counter: false}
model:
  class_path: PretrainModule
  init_args:
    model: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
data:
  source: {class_path: ManifestSource, init_args: {path: manifest.csv, label_column: label}}
  batch_size: 3
  clip_s: 0.48
  num_mel_bins: 32
  num_frames: 4
  fps: 10.0
  image_size: 32
  val_fraction: 0.1
"""


def steps(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"rank{rank}.jsonl").read_text().splitlines()]


class Runner:
    """Runs that die where they are told to; see ``dying.py``."""

    def __init__(self, made_clips: Path, folder: Path, process: subprocess.Popen[str]) -> None:
        self.made_clips, self.folder, self.process = made_clips, folder, process

    def run(self, name: str, deaths: list[str], *flags: str, ranks: int = 1) -> Path:
        """A run that dies at each of the places, is taken up after each, and ends."""
        folder = self.folder / name
        folder.mkdir()
        config = folder / "run.yaml"
        config.write_text(CONFIG.replace("manifest.csv", str(self.made_clips / "manifest.csv")))
        args = [
            "fit",
            "--config",
            str(config),
            "--trainer.default_root_dir",
            str(folder),
            "--ckpt_path",
            "last",
            *flags,
        ]
        for where in [*deaths, "never"]:
            task = {"folder": str(folder), "where": where, "ranks": ranks, "args": [*args, *flags]}
            print(json.dumps(task), file=self.process.stdin, flush=True)
            assert self.process.stdout is not None
            code = self.process.stdout.readline().strip()
            wanted = "0" if where == "never" else str(-signal.SIGKILL)
            assert code == wanted, (folder / "said.txt").read_text()
        return folder


@pytest.fixture
def runner(made_clips: Path, tmp_path: Path) -> Iterator[Runner]:
    command = [sys.executable, str(ROOT / "tests" / "dying.py")]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Runner(made_clips, tmp_path, process)


def logs(folder: Path) -> Path:
    """The folder of the run's curves and checkpoints; one that died before its first checkpoint left none."""
    (of_run,) = (path.parent for path in folder.glob("lightning_logs/*/checkpoints") if any(path.glob("*.ckpt")))
    return of_run


def assert_same_run(killed: Path, whole: Path, ranks: int) -> None:
    for rank in range(ranks):
        expected = {step["step"]: step for step in steps(whole, rank)}
        assert list(expected) == list(range(1, len(expected) + 1))
        seen = steps(killed, rank)
        assert {step["step"] for step in seen} == set(expected)
        assert len(seen) > len(expected), "what was done after the last checkpoint is done again"
        assert all(step == expected[step["step"]] for step in seen)
        assert len({len(step["clips"]) for step in seen}) > 2, "the batch size changes"
    first, second = (torch.load(folder / "weights.pt") for folder in (whole, killed))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    checkpoints = {path.name.partition("=")[0] for path in (logs(killed) / "checkpoints").iterdir()}
    assert checkpoints == {"last.ckpt", "epoch"}
    counts = [json.loads((logs(folder) / "compute.json").read_text()) for folder in (whole, killed)]
    for key in ("clips", "steps", "training_flops"):
        assert counts[0][key] == counts[1][key]


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(runner: Runner) -> None:
    flags = ("--data.num_workers", "2")
    whole = runner.run("whole", [], *flags)
    per_epoch = [sum(step["epoch"] == epoch for step in steps(whole)) for epoch in range(4)]
    in_the_middle = per_epoch[0] + per_epoch[1] // 2 + 1
    # before there is a checkpoint; in mid-epoch; while one is written; when it is written but not in its place; after
    # the last step of an epoch
    deaths = ["write:1", f"step:{in_the_middle}", "write:2", "rename:3", f"step:{sum(per_epoch[:3])}"]
    killed = runner.run("killed", deaths, *flags)
    assert_same_run(killed, whole, 1)


@pytest.mark.slow
@pytest.mark.ddp
def test_the_same_on_two_ranks(runner: Runner) -> None:
    flags = (
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
        "--data.num_workers",
        "1",
        "--trainer.max_epochs",
        "3",
    )
    whole = runner.run("whole", [], *flags, ranks=2)
    in_the_middle = sum(step["epoch"] == 0 for step in steps(whole)) + 3
    killed = runner.run("killed", [f"step:{in_the_middle}", "write:2"], *flags, ranks=2)
    assert_same_run(killed, whole, 2)
