"""What ends a run from outside is told in one line, and nothing is lost or written where it should not be."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from command_config import Run
from ranks import environment

SMALL = "--data.clip_s 0.48 --data.num_mel_bins 32 --data.num_frames 4 --data.fps 10 --data.image_size 32".split()
CALLBACKS = """
import resource, shutil
from pathlib import Path
from lightning.pytorch import Callback

class Vanish(Callback):
    '''Removes the run's folder, or puts an empty one in its place.'''

    def __init__(self, *, replace: bool):
        self.replace = replace

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            shutil.rmtree(trainer.log_dir)
            if self.replace:
                Path(trainer.log_dir).mkdir()

class Full(Callback):
    '''Lets no file grow from the second step on.'''

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
"""


@pytest.fixture
def args(made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "endings.py").write_text(CALLBACKS)
    monkeypatch.syspath_prepend(tmp_path)
    data = ["--data.source.root", str(made_clips / "clips"), "--data.batch_size", "10", *SMALL]
    return ["fit", "--config", "mine.yaml", *data, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"]


@pytest.mark.parametrize("replace", ["false", "true"])
def test_a_run_whose_folder_vanishes_ends(replace: str, args: list[str], run: Run, tmp_path: Path) -> None:
    vanish = ["--trainer.callbacks+=endings.Vanish", "--trainer.callbacks.replace", replace]
    code, _, err = run(*args, "--trainer.logger", "true", *vanish, "--trainer.callbacks+=ComputeAccounting")
    folder = tmp_path / "lightning_logs" / "version_0"
    said = [line for line in err.splitlines() if line.startswith("diffmavil: error")]
    assert code == 2 and "Traceback" not in err, err
    what = f"the run's folder {folder} was removed or replaced while it ran; the run ends, and writes no more"
    # where it is only removed, TensorBoard may be the first to miss its file
    missed = f"diffmavil: error: [Errno 2] No such file or directory: b'{folder}/events"
    assert said == [f"diffmavil: error: {what}"] or (replace == "false" and said[0].startswith(missed)), said
    left = {path.name.split(".")[0] for path in folder.rglob("*")}
    assert left <= {"events", "hparams"}, "what the logger closes, but no checkpoint and no count"


def test_curves_on_a_full_disk_end_the_run_in_a_line(args: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "logger.yaml").write_text(
        "trainer: {logger: {class_path: TensorBoardLogger, init_args: {save_dir: .}, dict_kwargs: {flush_secs: 0}}}"
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        more = ["--trainer.callbacks+=endings.Full", "--trainer.enable_checkpointing", "false"]
        code, _, err = run(*args, "--config", "logger.yaml", *more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2 and "Traceback" not in err and "File too large" in err.splitlines()[-1], err


NO_ROOM = """
mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 77
exec "$@"
"""


def test_no_room_for_data_workers_is_told_in_a_line(args: list[str], run: Run, tmp_path: Path) -> None:
    command = ["unshare", "--mount", "sh", "-c", NO_ROOM, "sh", sys.executable, "-m", "diffmavil", *args]
    command += ["--data.num_workers", "4"]
    try:
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode in (1, 77) and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("a small /dev/shm can be mounted by root only")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "for the locks of 4 data workers: make it larger (docker run --shm-size)" in done.stderr
    assert "/dev/shm" in done.stderr.splitlines()[-1] and os.path.isdir("/dev/shm")
