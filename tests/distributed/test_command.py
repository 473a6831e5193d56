"""The command with two processes, also as of two machines: how it is started, what it survives and what it does not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import torch
import yaml
from ranks import environment, free_port
from small import learner

from diffmavil.models.origin import load_pretrained

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

CONFIG = """
model:
  class_path: PretrainModule
  init_args:
    model: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
data:
  source: {class_path: FolderSource, init_args: {root: clips}}
  batch_size: 3
  num_workers: 0
  clip_s: 0.64
  num_mel_bins: 32
  num_frames: 2
  fps: 5
  image_size: 32
trainer:
  accelerator: cpu
  devices: 2
  max_epochs: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  logger: {class_path: TensorBoardLogger, init_args: {save_dir: ., name: run, version: ""}}
  callbacks:
    - class_path: ComputeAccounting
    - class_path: ReconstructionImages
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: ., save_last: true}
"""

SLEEPER = """
import os, time
from pathlib import Path
from lightning import Callback

class Sleeper(Callback):
    '''All but one rank hear nothing any more after their first step.'''

    def __init__(self, *, but: int):
        self.but = but

    def on_train_batch_end(self, trainer, *_):
        rank = trainer.global_rank
        Path(f"{rank}.tmp").write_text(str(os.getpid()))
        Path(f"{rank}.tmp").rename(f"{rank}.pid")
        if rank != self.but:
            time.sleep(1000)
"""

LAUNCHER = [sys.executable, "-m", "diffmavil"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
STANDALONE = [*TORCHRUN, "--standalone", "--nproc_per_node", "2", "-m", "diffmavil"]
DDP = ["--trainer.strategy", "ddp"]
NODES = [*DDP, "--trainer.num_nodes", "2", "--trainer.devices", "1"]
FSDP = [
    *("--config", "trainer/fsdp.yaml", "--trainer.strategy.data_parallel_size", "2"),
    *("--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1.0"),
]
ELASTIC = r"^[EW]\d{4} .*torch/distributed/elastic/.*$"
"""What torchrun on one machine says, at exit code 0, where the other's, which holds the store, is gone before it."""

Start = tuple[list[str], dict[str, str]]
"""A command that someone types, or srun, and its variables."""


def one_machine(port: str) -> list[Start]:
    return [(LAUNCHER, {"MASTER_PORT": port})]


def torchrun_on_two_machines(port: str) -> list[Start]:
    master = ["--master_addr", "127.0.0.1", "--master_port", port]
    command = [*TORCHRUN, "--nnodes", "2", "--nproc_per_node", "1", *master]
    return [([*command, "--node_rank", str(node), "-m", "diffmavil"], {}) for node in range(2)]


def srun_on_two_machines(port: str) -> list[Start]:
    """Two processes with the variables that srun sets for one task on each of two machines."""
    job = {
        "MASTER_PORT": port,
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NAME": "pretrain",
        "SLURM_NODELIST": "localhost",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_LOCALID": "0",
    }
    return [(LAUNCHER, {**job, "SLURM_NODEID": str(node), "SLURM_PROCID": str(node)}) for node in range(2)]


@pytest.fixture
def folder(tmp_path: Path, made_clips: Path) -> Path:
    """Eighteen clips, one of them broken; of the two held out, the one that the second rank gets."""
    clips = tmp_path / "clips"
    (clips / "val").mkdir(parents=True)
    paths = sorted((made_clips / "clips").iterdir())[:16]
    for path in paths[:15]:
        shutil.copy(path, clips / path.name)
    (clips / "broken.mp4").write_text("no film")
    shutil.copy(paths[15], clips / "val" / "a.mp4")
    (clips / "val" / "b.mp4").touch()
    (tmp_path / "mine.yaml").write_text(CONFIG)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    return tmp_path


@contextmanager
def started(folder: Path, command: list[str], *args: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A run; where it has not ended in the end, whoever started processes is asked to end them."""
    with subprocess.Popen(
        [*command, "fit", "--config", "mine.yaml", *args],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(40)
            process.kill()


@pytest.mark.parametrize(
    ("starts", "args"),
    [(torchrun_on_two_machines, NODES), (srun_on_two_machines, NODES), (one_machine, FSDP)],
    ids=["torchrun, two machines, ddp", "srun, two machines, ddp", "fsdp"],
)
def test_a_run_with_broken_files_ends_well(folder: Path, starts: Callable[[str], list[Start]], args: list[str]) -> None:
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(folder, command, *args, **variables))
            for command, variables in starts(free_port())
        ]
        with ThreadPoolExecutor() as threads:  # no process waits for its output to be read
            outputs = threads.map(lambda process: process.communicate(timeout=200)[0], processes)
            output = "".join(outputs)
    assert all(process.returncode == 0 for process in processes), output
    ours = re.sub(ELASTIC, "", output, flags=re.MULTILINE)
    assert "find_unused_parameters" not in ours and "Traceback" not in ours, output
    run = folder / "run"
    cost = yaml.safe_load((run / "compute.json").read_text())
    assert (cost["world_size"], cost["steps"], cost["clips"]) == (2, 4, 12)
    skipped = "".join(path.read_text() for path in run.glob("skipped_rank*.csv"))
    assert "broken.mp4,not a media file" in skipped and "b.mp4,empty file" in skipped
    model = learner(seed=5)
    before = model.audio_encoder.patch_embed.weight.detach().clone()
    load_pretrained(folder / "last.ckpt", model)
    assert not torch.equal(model.audio_encoder.patch_embed.weight, before)
    assert torch.load(folder / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]


@pytest.mark.parametrize(
    ("command", "killed"),
    [(LAUNCHER, 0), (LAUNCHER, 1), (STANDALONE, 1)],
    ids=["the first of Lightning's", "the second of Lightning's", "one of torchrun's"],
)
def test_a_rank_that_dies_ends_the_run(folder: Path, command: list[str], killed: int) -> None:
    sleeper = ["--trainer.callbacks+=sleeper.Sleeper", f"--trainer.callbacks.but={killed}"]
    files = [folder / f"{rank}.pid" for rank in range(2)]
    with started(folder, command, *DDP, *sleeper, MASTER_PORT=free_port()) as process:
        try:
            deadline = time.monotonic() + 100
            while not all(file.exists() for file in files):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.2)
            os.kill(int(files[killed].read_text()), signal.SIGKILL)
            output, _ = process.communicate(timeout=60)  # until the last process that can write to it has ended
            assert process.returncode != 0, output
            if killed == 1 and command is LAUNCHER:
                # from the first in the middle of what it does, or from Lightning's launcher, which may be quicker
                said = "diffmavil: error: another process of this run is gone", "terminated with code -9"
                assert any(line in output for line in said) and "Traceback" not in output, output
        finally:
            for file in files:
                with suppress(FileNotFoundError, ProcessLookupError):
                    os.kill(int(file.read_text()), signal.SIGKILL)
