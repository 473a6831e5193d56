"""Every fold is the test split once, and what was stopped goes on."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from diffmavil import cli
from diffmavil.commands.folds import CrossValidation
from diffmavil.commands.train import train

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 2
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, every_n_train_steps: 1}
model:
  class_path: FineTuneModule
  init_args:
    backbone: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
    num_classes: 2
    modalities: audio
data:
  source: {class_path: Esc50Source, init_args: {root: esc}}
  modalities: audio
  batch_size: 4
  num_workers: 0
  clip_s: 0.48
  num_mel_bins: 32
"""


@pytest.fixture
def esc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A folder in the layout of ESC-50 with folds 1 and 3, and the options of a small training on it."""
    monkeypatch.chdir(tmp_path)
    Path("esc/audio").mkdir(parents=True)
    Path("esc/meta").mkdir()
    rows = ["filename,fold,target,category"]
    noise = np.random.default_rng(0)
    for fold in (1, 3):
        for k, kind in enumerate(("tone", "noise") * 2):
            name = f"{fold}-{k}.wav"
            tone = np.sin(2 * np.pi * 200 * (fold + k) * np.arange(8000) / 16000)
            with wave.open(f"esc/audio/{name}", "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                samples = tone if kind == "tone" else noise.standard_normal(8000) / 4
                file.writeframes((8000 * samples).astype(np.int16).tobytes())
            rows.append(f"{name},{fold},0,{kind}")
    Path("esc/meta/esc50.csv").write_text("\n".join(rows) + "\n")
    Path("esc.yaml").write_text(CONFIG)
    return ["--config", "esc.yaml", "--model.lr", "0.001"]


def test_the_figures_are_those_of_each_fold_alone(esc: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cross-validate", *esc, "--folds", "1"]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("mean"), "no deviation of one fold"
    checkpoint = Path("runs/cross_validate/fold_1/lightning_logs/version_0/checkpoints/last.ckpt")
    written = checkpoint.stat().st_mtime_ns
    # a run that was stopped in the middle of fold 3
    stopped = ["--data.source.fold", "3", "--trainer.default_root_dir", "runs/cross_validate/fold_3"]
    assert cli.main(["fit", *esc, *stopped, "--trainer.max_steps", "3"]) == 0
    capsys.readouterr()

    assert cli.main(["cross-validate", *esc]) == 0
    out = capsys.readouterr().out
    assert "fold 1 " not in out and checkpoint.stat().st_mtime_ns == written, "what is done is not done again"
    results = json.loads(Path("runs/cross_validate/results.json").read_text())
    assert results["folds"] == [1, 3]

    losses, accuracies = [], []
    for fold in ("1", "3"):
        alone = [*esc, "--data.source.fold", fold, "--trainer.default_root_dir", f"alone_{fold}"]
        train(["fit", *alone])
        figures = train(["test", *alone, "--ckpt_path", "last"]).trainer.callback_metrics
        losses.append(float(figures["test/loss"]))
        accuracies.append(float(figures["test/accuracy"]))
        assert results["scores"][fold] == {"loss": losses[-1], "accuracy": accuracies[-1]}
    assert losses[0] != losses[1]

    name, *rows = out.rstrip().splitlines()[-5:]
    columns = name.split()
    assert columns[0] == "fold" and [row.split()[0] for row in rows] == ["1", "3", "mean", "std"]
    table = {row.split()[0]: dict(zip(columns, row.split(), strict=True)) for row in rows}
    for label, expected in (("mean", np.mean(losses)), ("std", np.std(losses, ddof=1)), ("3", losses[1])):
        assert float(table[label]["loss"]) == pytest.approx(expected, abs=6e-5)
    assert float(table["mean"]["accuracy"]) == pytest.approx(np.mean(accuracies), abs=6e-5)

    capsys.readouterr()
    assert cli.main(["cross-validate", *esc]) == 0
    assert capsys.readouterr().out.strip() == "\n".join([name, *rows]), "the table, and no more"

    Path("esc.yaml").write_text(CONFIG.replace("max_epochs: 2", "max_epochs: 3"))
    for changed in (esc, [*esc, "--model.lr", "0.002"]):
        assert cli.main(["cross-validate", *changed]) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(
            "diffmavil: error: out must be a folder for this command and config alone, got runs/"
        )


def test_a_fold_ends_with_what_it_was_begun_with(esc: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cross-validate", *esc, "--folds", "1", "--data.batch_size", "0"]) == 2
    assert not list(Path("runs").glob("**/*.ckpt")), "nothing was trained: another command may take the folder"
    Path("esc.yaml").write_text(CONFIG.replace("ModelCheckpoint", "ModelCheckpoin"))
    assert cli.main(["cross-validate", *esc, "--folds", "1"]) == 2

    Path("esc.yaml").write_text(CONFIG)
    assert cli.main(["cross-validate", *esc, "--folds", "1", "--trainer.fast_dev_run", "true"]) == 2  # fit, but no test
    fold = ["--data.source.fold", "1", "--trainer.default_root_dir", "runs/cross_validate/fold_1"]
    assert cli.main(["fit", *esc, *fold, "--trainer.max_steps", "1"]) == 0  # stopped in the middle of fold 1
    assert cli.main(["cross-validate", *esc, "--model.lr", "0.002"]) == 2
    assert "this command and config alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--folds", "1,two"], "argument --folds: must be numbers with commas between them, got '1,two'"),
        (["--folds", "2"], "fold must be one of 1, 3, got 2"),
        (["--model.lrr", "1"], "unknown key model.lrr; did you mean model.lr?"),
        (
            ["--data.source.fold=3"],
            "data.source.fold must be left out, as each fold is tested on; see --folds; got --data.source.fold=3",
        ),
        (["--data.source", "FolderSource", "--data.source.root", "esc"], "unknown key data.source.fold"),
    ],
)
def test_a_mistake_is_one_line(
    more: list[str], message: str, esc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cross-validate", *esc, *more]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"diffmavil: error: {message}"


def test_figures_are_on_the_disk_before_they_replace_the_last(tmp_path: Path, disk: list[str]) -> None:
    CrossValidation(tmp_path / "out", [])._write()
    assert disk == [f"sync {tmp_path.name}", "sync results.json.part", "name results.json", "sync out"]


@pytest.mark.parametrize(
    "shared",
    [
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=kept"],
    ],
)
def test_no_fold_goes_on_with_another_folds_training(
    esc: list[str], shared: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cross-validate", *esc, *shared]) == 2
    assert "each fold has a folder of its own, got " in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().rglob("*.ckpt"))


def test_a_refused_start_leaves_no_folder(esc: list[str]) -> None:
    assert cli.main(["cross-validate", *esc, "--data.batch_size", "0"]) == 2
    assert not Path("runs").exists()
    assert cli.main(["fit", *esc, "--trainer.max_epochs", "null"]) == 2, "1000 epochs are not what was asked for"
