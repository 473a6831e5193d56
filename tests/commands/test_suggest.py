"""What a misspelt word was meant to be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from command_config import CONFIG, Run

from diffmavil.commands.suggest import near_key
from diffmavil.models.checkpoints import mark_checkpoint


def _meant(err: str) -> str:
    assert err.count("\n") == 1 and "Traceback" not in err and len(err) < 520, err
    return err.rstrip("\n").partition("; did you mean ")[2].removesuffix("?")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("fit --config mine.yaml --data.clip_seconds 10", "--data.clip_s"),
        ("fit --config mine.yaml --model.lerning_rate 1", "model.lr"),
        ("fit --config mine.yaml --model.model.siz nano", "model.model.size"),
        (
            "fit --config mine.yaml --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitr x",
            "trainer.callbacks.monitor",
        ),
        ("fit --config mine.yaml --model PretrainModul", "PretrainModule"),
        ("fit --config mine.yaml --data.source FolderSourc", "FolderSource"),
        ("fit --config mine.yaml --trainer.callbacks+=EarlyStoping", "EarlyStopping"),
        ("fit --config mine.yaml --model.model diffmavil.models.difmavil", "diffmavil.models.diffmavil"),
        ("fit --config mine.yaml --model.zzzzz 3", ""),
        ("stats --config mine.yaml --data.clip_seconds 10", "--data.clip_s"),
        ("prepare clips.csv --out s --source.label_colum label", "source.label_column"),
        ("prepare clips.csv --out s --stored.fsp 3", "--stored.fps"),
        ("synth --ouut x", "--out"),
        ("flops --config mine.yaml --jsn", "--json"),
        ("bench data --clps 3", "--clips"),
        ("report --rnu x", "--run"),
        ("fit --config pretrian.yaml", "pretrain.yaml"),
        ("fit --config demo/pretrain.yml", "demo/pretrain.yaml"),
        ("fit --config ../nowhere/zz.yaml", ""),
        ("fti", "fit"),
        ("train", "fit"),
        ("xyz", ""),
    ],
)
def test_the_right_word_is_suggested(line: str, meant: str, run: Run) -> None:
    code, _, err = run(*line.split())
    assert (code, _meant(err)) == (2, meant), err


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        ("modle: {class_path: PretrainModule}", "model"),
        ("model: {init_args: {model: {init_args: {szie: nano}}}}", "model.model.size"),
        ("data: {source: {init_args: {label_clumn: x}, class_path: ManifestSource}}", "data.source.label_column"),
    ],
)
def test_the_right_key_is_suggested_in_a_file(content: str, meant: str, run: Run) -> None:
    Path("bad.yaml").write_text(content)
    code, _, err = run("fit", "--config", "mine.yaml", "--config", "bad.yaml")
    assert (code, _meant(err)) == (2, meant), err


def test_a_key_that_a_command_adds_is_not_taken_for_the_users(run: Run) -> None:
    code, _, err = run("cross-validate", "--config", "mine.yaml", "--out", "x")  # FolderSource has no folds
    assert code == 2 and "unknown key data.source.fold" in err and "did you mean" not in err
    code, _, err = run("cross-validate", "--config", "demo/finetune_esc10.yaml", "--data.bach_size", "3")
    assert code == 2 and err.endswith("did you mean --data.batch_size?\n")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("data.batch_sise", ["data.batch_size"]),
        ("lr", ["model.lr"]),
        ("model.learning_rate", ["model.lr"]),
        ("max_epoch", ["trainer.max_epochs"]),
        ("epochs", ["trainer.max_epochs", "trainer.min_epochs"]),
        ("modle.lr", ["model.lr"]),
        ("tainer.max_epochs", ["trainer.max_epochs"]),
        ("conf", ["config"]),
        ("data.Clip_S", ["data.clip_s"]),
        ("zzzzz", []),
        ("model.zzzzz", []),
        ("data.x", []),
    ],
)
def test_a_key_is_looked_for_beside_it_and_elsewhere(key: str, meant: list[str]) -> None:
    known = "config model model.lr model.seed data.batch_size data.clip_s trainer.max_epochs trainer.min_epochs"
    assert sorted(near_key(key, known.split())) == meant


def test_every_key_of_a_config_is_found_again_with_a_letter_missing() -> None:
    """A property of the search: each key loses each inner letter of its name once."""
    config = yaml.safe_load(CONFIG)
    known = [f"{group}.{name}" for group in ("trainer", "data") for name in config[group]]
    for key in known:
        group, _, name = key.partition(".")
        for k in range(1, len(name)):
            wrong = f"{group}.{name[:k]}{name[k + 1 :]}"
            assert near_key(wrong, known) == [key], wrong


def test_no_module_is_imported_for_the_sake_of_a_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sprung.py").write_text("raise SystemExit(7)")
    monkeypatch.syspath_prepend(Path.cwd())
    code, _, err = run("fit", "--config", "mine.yaml", "--data.source.root", "sprung.csv", "--data.clip_seconds", "3")
    assert code == 2 and "did you mean --data.clip_s?" in err and "sprung" not in sys.modules


OWN = CONFIG.replace("FolderSource", "mypkg.Source")


@pytest.mark.parametrize(
    "line",
    [
        "fit --config own.yaml",
        "test --run run",
        "predict --run run",
        "report --run run",
        "stats --config own.yaml",
        "compare own.yaml mine.yaml",
        "prepare --source mypkg.Source --out s",
        "fit --config mine.yaml --model.model mypkg.parts.model",
    ],
)
def test_a_package_of_ones_own_that_is_not_found(line: str, run: Run) -> None:
    """As under the installed command, which does not look into the working directory."""
    Path("run/checkpoints").mkdir(parents=True)
    mark_checkpoint(content := {"state_dict": {}}, "PretrainModule", "0")
    torch.save(content, "run/checkpoints/last.ckpt")
    for name in ("own.yaml", "run/config.yaml"):
        Path(name).write_text(OWN)
    code, _, err = run(*line.split())
    elsewhere = "; set PYTHONPATH to the folder that holds mypkg, or call python -m diffmavil from there\n"
    assert code == 2 and "No module named 'mypkg" in err and err.endswith(elsewhere) and "Traceback" not in err, err
    Path("mypkg.py").touch()
    here = "; mypkg is in the working directory: call python -m diffmavil, or set PYTHONPATH=.\n"
    assert run(*line.split())[2].endswith(here)
