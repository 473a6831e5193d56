"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Before anything of ours: what is imported while the type checker's hook loads a module of ours is compiled anew.
import lightning.pytorch.cli  # noqa: F401
import matplotlib.figure  # noqa: F401
import pytest
import sklearn.linear_model  # noqa: F401
import tensorboard.backend.event_processing.event_accumulator  # noqa: F401
import timm  # noqa: F401
import torchaudio  # noqa: F401
import torchvision.transforms.v2  # noqa: F401
from command_config import CONFIG, Run
from jaxtyping import config
from media import SHARED

from diffmavil import cli
from diffmavil.commands import configs
from diffmavil.commands.synth import synth


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def unchecked_shapes() -> Iterator[None]:
    """Without the checks of shapes in every function, which take a third of a training's time.

    For files whose subject is what a whole training does around the model; those of the model's parts keep them.
    """
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/data with real clips is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def made_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made data set: 40 clips of 1.5 s, 30 to train on and 10 to test on, and their manifest.csv."""
    root = tmp_path_factory.mktemp("made")
    synth(out=root, clips=40, seed=3, clip_s=1.5, size_px=48, fps=8, workers=1)
    return root


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the disk is asked to confirm, and which files are given their names, in order: ``sync NAME, name NAME``."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def _fsync(handle: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def _replace(path: Path, target: Path) -> Path:
        events.append(f"name {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", _fsync)
    monkeypatch.setattr(Path, "replace", _replace)
    return events


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder with ``mine.yaml``; gives exit code, stdout and stderr."""
    (tmp_path / "mine.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)

    def _run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(args))
        return code, *capsys.readouterr()

    return _run


@pytest.fixture
def packaged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packaged configs of our own."""
    root = tmp_path_factory.mktemp("configs")
    (root / "demo").mkdir()
    for name, epochs in (("one.yaml", 11), ("demo/two.yaml", 22)):
        (root / name).write_text(CONFIG.replace("max_epochs: 1", f"max_epochs: {epochs}"))
    monkeypatch.setattr(configs, "_configs_dir", lambda: root)
    return root
