"""The command line: its help, its configs, and how it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_config import CONFIG, Run
from lightning.pytorch.accelerators import CUDAAccelerator

from diffmavil import __version__, cli
from diffmavil.commands import configs
from diffmavil.commands.train import DiffmavilCLI


def _epochs(printed: str) -> Any:
    return yaml.safe_load(printed)["trainer"]["max_epochs"]


# --- help ---


def test_help_lists_every_command_and_config(run: Run, packaged: Path) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in ("fit", "validate", "test", "predict", "synth", "stats", "demo", "one.yaml", "demo/two.yaml"):
        assert f" {name}" in out
    assert run()[:2] == (0, out)
    assert run("--version")[:2] == (0, f"diffmavil {__version__}\n")


def test_help_shows_the_docstrings(run: Run) -> None:
    code, out, _ = run("fit", "--help")
    assert code == 0
    assert "--data.clip_s" in out
    assert "Window of sound in seconds" in out
    code, out, _ = run("fit", "--model.help", "PretrainModule")
    assert code == 0
    assert "Share of the spectrogram's patches hidden" in " ".join(out.split())
    code, out, _ = run("synth", "--help")
    assert code == 0
    assert "--out" in out


LIGHT = ("report", "demo", "compare", "cross-validate", "synth", "bench", "bench data", "bench scale", "bench gpu")


def test_commands_that_list_no_classes_answer_without_heavy_packages() -> None:
    """In a process of its own, as this one has imported them."""
    program = f"""
import sys
from diffmavil import cli
for name in {LIGHT}:
    assert cli.main([*name.split(), "--help"]) == 0, name
    heavy = {"torch", "lightning", "timm", "sklearn", "av", "matplotlib"} & sys.modules.keys()
    assert not heavy, (name, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_no_command_of_the_trainer_waits_for_what_it_may_not_need() -> None:
    program = """
import sys
from diffmavil import cli
assert cli.main(["fit", "--config", "pretrain.yaml", "--data.nokey", "3"]) == 2
heavy = {"timm", "sklearn"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(cli.OTHER | cli.OWN_PARSER))
def test_every_other_command_has_its_function(name: str, run: Run) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"diffmavil {name}" in out


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'lightning', 'jsonargparse', 'av', 'numpy'}"
    code = f"import sys, diffmavil.cli; diffmavil.cli.main([]); sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


# --- configs ---


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"], ["-c", "{}"]])
def test_a_packaged_config_is_found_by_name(form: list[str], run: Run, packaged: Path) -> None:
    for name, epochs in (("one.yaml", 11), ("demo/two.yaml", 22)):
        code, out, _ = run("fit", *(part.format(name) for part in form), "--print_config")
        assert (code, _epochs(out)) == (0, epochs)


def test_a_file_in_the_working_directory_wins(run: Run, packaged: Path) -> None:
    Path("one.yaml").write_text(CONFIG.replace("max_epochs: 1", "max_epochs: 33"))
    assert _epochs(run("fit", "--config", "one.yaml", "--print_config")[1]) == 33


def test_a_flag_overrides_the_config(run: Run) -> None:
    args = ("--model.lr", "0.5", "--data.source.root", "there", "--model.model.rho=0.7")
    printed = yaml.safe_load(run("fit", "--config", "mine.yaml", *args, "--print_config")[1])
    assert printed["model"]["init_args"]["lr"] == 0.5
    assert printed["model"]["init_args"]["model"]["init_args"]["rho"] == 0.7
    assert printed["data"]["source"]["init_args"]["root"] == "there"


def test_what_print_config_prints_can_be_fed_back(run: Run) -> None:
    _, first, _ = run("fit", "--config", "mine.yaml", "--print_config")
    Path("again.yaml").write_text(first)
    assert run("fit", "--config", "again.yaml", "--print_config") == (0, first, "")


@pytest.mark.parametrize("name", configs.packaged_configs())
def test_every_packaged_config_fits_the_signatures(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(DiffmavilCLI, "instantiate_classes", lambda self: parsed.append(self))
    monkeypatch.setattr(DiffmavilCLI, "_run_subcommand", lambda *_: None)
    content = yaml.safe_load(Path(configs.find_config(name)).read_text())
    complete = "model" in content
    args = ["--config", name] if complete else ["--config", "mine.yaml", "--config", name]
    if complete and "source" not in content["data"]:  # the user's to give
        args += ["--data.source", "FolderSource", "--data.source.root", "clips"]
    code, _, err = run("fit", *args)
    assert (code, len(parsed)) == (0, 1), err


@pytest.mark.parametrize(
    ("args", "has_gpu", "chosen"),
    [
        ([], True, "bf16-mixed"),
        ([], False, "32-true"),
        (["--trainer.accelerator", "cpu"], True, "32-true"),
        (["--trainer.precision", "16-mixed"], True, "16-mixed"),
        (["--trainer.precision", "bf16-mixed"], False, "bf16-mixed"),
    ],
)
def test_the_precision_follows_the_device_unless_it_is_given(
    args: list[str], has_gpu: bool, chosen: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[DiffmavilCLI] = []
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: has_gpu)
    monkeypatch.setattr(DiffmavilCLI, "instantiate_classes", lambda self: parsed.append(self))
    monkeypatch.setattr(DiffmavilCLI, "_run_subcommand", lambda *_: None)
    code, _, err = run("fit", "--config", "pretrain.yaml", *args)
    assert code == 0, err
    assert parsed[0].config["fit"].trainer.precision == chosen


# --- checkpoints ---


def test_a_checkpoint_that_is_not_ours_is_refused(run: Run) -> None:
    Path("text.ckpt").write_text("not a checkpoint")
    torch.save({"state_dict": {}}, "other.ckpt")
    for name in ("text.ckpt", "other.ckpt"):
        code, _, err = run("fit", "--config", "mine.yaml", "--ckpt_path", name)
        last = err.rstrip("\n").split("\n")[-1]
        assert (code, name in last, last.startswith("diffmavil: error: ")) == (2, True, True)


# --- module ---


def test_python_dash_m(tmp_path: Path) -> None:
    args = [sys.executable, "-m", "diffmavil", "synth", "--out", str(tmp_path), "--clips", "0"]
    root = str(Path(cli.__file__).parents[1])
    done = subprocess.run(args, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert (done.returncode, done.stderr) == (2, "diffmavil: error: clips must be at least 1, got 0\n")
