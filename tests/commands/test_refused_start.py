"""What ends before the first training step leaves no run's folder behind, and nothing else is ever removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_config import CONFIG, Run
from small import trainer

from diffmavil.commands.refused_start import removed_if_refused

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

LOGGED = CONFIG.replace("logger: false", "log_every_n_steps: 1\n  limit_train_batches: 2").replace(
    "num_workers: 0",
    "num_workers: 0\n  batch_size: 5\n  clip_s: 0.64\n  num_frames: 2\n  fps: 5\n  image_size: 32\n  num_mel_bins: 32",
)

FAILING = """
from lightning.pytorch import Callback

class Fails(Callback):
    def __init__(self, where: str):
        self.where = where

    def setup(self, *args, **kwargs):
        self._fail("setup")

    def on_train_batch_start(self, *args, **kwargs):
        self._fail("step")

    def on_train_batch_end(self, *args, **kwargs):
        self._fail("stepped")

    def _fail(self, where):
        if where == self.where:
            raise ValueError("fails here")
"""


@pytest.fixture
def fit(run: Run, tmp_path: Path, made_clips: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    shutil.copytree(made_clips / "clips", tmp_path / "clips")
    (tmp_path / "mine.yaml").write_text(LOGGED)
    (tmp_path / "fails.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)

    def _fit(*args: str) -> tuple[int, str]:
        code, _, err = run("fit", "--config", "mine.yaml", *args)
        return code, err

    return _fit


@pytest.mark.parametrize(
    "flags",
    [
        ["--data.source.root", "nowhere"],
        ["--trainer.callbacks+=AdaptiveBatchSize"],
        ["--trainer.callbacks+=fails.Fails", "--trainer.callbacks.where", "step"],
        ["--data.source.root", "nowhere", "--trainer.default_root_dir", "runs/deep"],
        ["--data.source.root", "nowhere", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "csv"],
    ],
)
def test_a_refused_start_leaves_nothing(flags: list[str], fit: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, err = fit(*flags)
    assert code != 0, err
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


def test_what_failed_after_a_step_keeps_its_folder_and_so_does_what_was_there(
    fit: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, err = fit("--trainer.callbacks+=fails.Fails", "--trainer.callbacks.where", "stepped")
    assert code == 1 and "fails here" in err, err
    folder = tmp_path / "lightning_logs/version_0"
    assert (folder / "config.yaml").is_file() and list(folder.glob("events*"))
    (tmp_path / "lightning_logs/version_1").mkdir()
    assert fit("--data.source.root", "nowhere")[0] == 2
    assert sorted(os.listdir(tmp_path / "lightning_logs")) == ["version_0", "version_1"]


def _loggers(tmp_path: Path) -> tuple[object, Path]:
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path, name="runs", version=0)
    return logger, tmp_path / "runs/version_0"


@pytest.mark.parametrize("alien", ["notes.txt", "events.out.tfevents.1.host.1.0", "checkpoints/last.ckpt", "link"])
def test_a_folder_that_holds_anything_else_is_left_alone(alien: str, tmp_path: Path) -> None:
    logger, folder = _loggers(tmp_path)
    with pytest.raises(KeyError), removed_if_refused(trainer(tmp_path, logger=logger)):
        logger.experiment  # type: ignore[attr-defined] # noqa: B018
        (folder / "config.yaml").touch()
        (folder / alien).parent.mkdir(exist_ok=True)
        if alien == "link":
            (folder / alien).symlink_to(tmp_path)
        else:
            (folder / alien).touch()
        raise KeyError
    assert os.path.lexists(folder / alien) and (folder / "config.yaml").exists() and list(folder.glob("events*"))


def test_a_link_in_the_folders_place_is_not_followed(tmp_path: Path) -> None:
    logger, folder = _loggers(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").touch()
    with pytest.raises(KeyError), removed_if_refused(trainer(tmp_path, logger=logger)):
        folder.parent.mkdir()
        folder.symlink_to(other)
        raise KeyError
    assert (other / "config.yaml").exists() and folder.is_symlink()


def test_cross_validate_leaves_no_results_of_a_refused_start(run: Run, tmp_path: Path) -> None:
    code, _, err = run("cross-validate", "--config", "mine.yaml", "--out", "cv")
    assert code == 2 and "fold" in err, err
    assert not (tmp_path / "cv").exists()
