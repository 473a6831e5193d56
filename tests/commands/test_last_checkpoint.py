"""Which file ``--ckpt_path last`` means, for each way to place runs; files are empty, for only places count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace

from diffmavil.commands.resume import last_checkpoint
from diffmavil.run_folder import RunFolderError, checkpoint_of, find_run

NOW = 1_700_000_000


def _checkpoint(path: Path, age_s: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


def _trainer(root: Path, logger: Any = None, callbacks: Any = None) -> Namespace:
    return Namespace(default_root_dir=str(root), logger=logger, callbacks=callbacks)


def _logger(kind: str, **init_args: Any) -> Namespace:
    return Namespace(class_path=f"lightning.pytorch.loggers.{kind}", init_args=Namespace(**init_args))


def _last(run: str) -> str:
    return f"{run}/checkpoints/last.ckpt"


PLACES: list[tuple[Any, str]] = [
    (None, "lightning_logs/version_3"),
    (None, "lightning_logs/mine"),
    (None, "."),
    (False, "."),
    (False, "lightning_logs/version_3"),
    (_logger("TensorBoardLogger", save_dir="tb", name=None, version=None), "tb/lightning_logs/version_3"),
    (_logger("TensorBoardLogger", save_dir="tb", name="a/b", version=None), "tb/a/b/version_3"),
    (_logger("TensorBoardLogger", save_dir="tb", name="", version=3), "tb/version_3"),
    (_logger("CSVLogger", save_dir="csv", name="mine", version="first"), "csv/mine/first"),
    (_logger("WandbLogger", save_dir="wandb", name="any"), "wandb/project/1x2y"),
    (
        [_logger("CSVLogger", save_dir="csv"), _logger("TensorBoardLogger", save_dir="tb")],
        "csv/lightning_logs/version_3",
    ),
]


@pytest.mark.parametrize(("logger", "run"), PLACES, ids=[str(k) for k in range(len(PLACES))])
def test_the_run_is_found_where_its_logger_has_it(
    logger: Any, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert last_checkpoint(_trainer(tmp_path, logger)) is None
    wanted = _checkpoint(tmp_path / _last(run))
    assert last_checkpoint(_trainer(tmp_path, logger)) == wanted
    assert find_run(tmp_path / run) == tmp_path / run, "a run's own folder means that run"


def test_a_logger_with_a_name_has_no_runs_of_another(tmp_path: Path) -> None:
    _checkpoint(tmp_path / _last("a/version_0"))
    named = _logger("TensorBoardLogger", save_dir=str(tmp_path), name="b", version=None)
    assert last_checkpoint(_trainer(tmp_path, named)) is None
    own = _checkpoint(tmp_path / _last("b/version_0"), age_s=10)
    assert last_checkpoint(_trainer(tmp_path, named)) == own


def test_the_newest_is_told_by_number_and_without_numbers_by_time(tmp_path: Path) -> None:
    _checkpoint(tmp_path / _last("lightning_logs/version_9"))
    tenth = _checkpoint(tmp_path / _last("lightning_logs/version_10"), age_s=1000)
    assert last_checkpoint(_trainer(tmp_path)) == tenth
    assert find_run(tmp_path) == tmp_path / "lightning_logs" / "version_10"
    newer = _checkpoint(tmp_path / _last("other/version_0"), age_s=10)
    assert last_checkpoint(_trainer(tmp_path)) == newer
    folder = tmp_path / "lightning_logs" / "version_10" / "checkpoints"
    (folder / "last-v1.ckpt").symlink_to("nowhere.ckpt")
    newest = _checkpoint(folder / "last-v2.ckpt", age_s=5)
    assert last_checkpoint(_trainer(tmp_path)) == newest


def test_folders_that_checkpoints_are_told_to_count_beside_the_runs(tmp_path: Path) -> None:
    named = Namespace(class_path="ModelCheckpoint", init_args=Namespace(dirpath=str(tmp_path / "kept"), monitor=None))
    trainer = _trainer(tmp_path / "runs", None, [named])
    kept = _checkpoint(tmp_path / "kept" / "last.ckpt", age_s=100)
    assert last_checkpoint(trainer) == kept
    own = _checkpoint(tmp_path / "runs" / _last("lightning_logs/version_0"))
    assert last_checkpoint(trainer) == own


def test_a_run_without_a_last_checkpoint_has_its_furthest(tmp_path: Path) -> None:
    for step, age in ((9, 0), (10, 50)):
        _checkpoint(tmp_path / "checkpoints" / f"epoch=0-step={step}.ckpt", age)
    assert checkpoint_of(find_run(tmp_path)).name == "epoch=0-step=10.ckpt"
    with pytest.raises(RunFolderError, match="run must be the folder of a run or one with runs below it"):
        find_run(tmp_path / "checkpoints")
