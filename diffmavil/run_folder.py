"""What the folder of a run holds, and finding runs and their checkpoints.

ROOT/                         trainer.default_root_dir
lightning_logs/version_N/   a run: one folder for each, whatever the logger
config.yaml               all settings
checkpoints/last.ckpt     the newest checkpoint; epoch=E-step=S.ckpt beside it
compute.json, skipped.csv, events.out.tfevents.*
checkpoints/                of runs without a logger
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

CONFIG: Final = "config.yaml"
CHECKPOINTS: Final = "checkpoints"
COMPUTE: Final = "compute.json"
LOGS: Final = "lightning_logs"
"""Lightning's name for the folder of a trainer's runs."""

_RUNS: Final = (".", "version_*", "*/version_*", f"{LOGS}/*", "*/*")
"""Where runs lie below the folder that a trainer was told to write to; the last: with loggers that name them freely."""


class RunFolderError(ValueError):
    """A folder holds no run, or a run no checkpoint; the message says which and what was looked for, in one line."""


def runs_below(root: Path, patterns: Iterable[str] = _RUNS[:-1]) -> list[Path]:
    """Folders of runs that have a last checkpoint: the folder itself, and those that a trainer made below it."""
    found = {folder.parent for pattern in patterns for folder in root.glob(f"{pattern}/{CHECKPOINTS}")}
    return sorted(run for run in found if newest_checkpoint(run / CHECKPOINTS) is not None)


def newest_run(runs: Iterable[Path]) -> Path | None:
    """The newest of some runs: by their version number within one folder, between folders by time.

    A number tells the order of runs also where the clock was set back.

    Returns:
        ``None`` where there are no runs.
    """
    newest: dict[Path, Path] = {}
    for run in runs:
        rival = newest.setdefault(run.parent, run)
        if _version(run) > _version(rival):
            newest[run.parent] = run
    return max(newest.values(), key=_written_at, default=None)


def find_run(folder: Path) -> Path:
    """The run that a folder means: itself, or as a trainer's ``default_root_dir`` its newest run.

    Raises:
        RunFolderError: If it holds none.
    """
    if folder.is_file():
        raise RunFolderError(
            f"run must be a folder, got the file {folder}; a checkpoint is named by --model.checkpoint or --ckpt_path"
        )
    if not folder.is_dir():
        raise RunFolderError(f"run must be a folder that exists, got {folder}")
    if (folder / CHECKPOINTS).is_dir():
        return folder
    run = newest_run(runs_below(folder, _RUNS)) or newest_run(_runs_without_checkpoint(folder))
    if run is None:
        raise RunFolderError(f"run must be the folder of a run or one with runs below it, got {folder}")
    return run


def _runs_without_checkpoint(root: Path) -> list[Path]:
    found = {path.parent for pattern in _RUNS for name in (CONFIG, COMPUTE) for path in root.glob(f"{pattern}/{name}")}
    return sorted(found)


def checkpoint_of(run: Path) -> Path:
    """The newest last checkpoint of a run, or its newest checkpoint where it keeps none by this name.

    Raises:
        RunFolderError: If it has none.
    """
    folder = run / CHECKPOINTS
    checkpoint = newest_checkpoint(folder) or max(_existing(folder.glob("*.ckpt")), key=_step, default=None)
    if checkpoint is None:
        raise RunFolderError(f"run must have a checkpoint in its folder {CHECKPOINTS}, got {run}")
    return checkpoint


def run_of(checkpoint: Path) -> Path:
    """Folder of the run that a checkpoint is of."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else checkpoint.parent


def newest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint in a folder, of several the one written last; ``None`` without any."""
    return max(_existing(folder.glob("last*.ckpt")), key=written_at, default=None)


def written_at(path: Path) -> float:
    """When a file was written."""
    return path.stat().st_mtime


def _existing(paths: Iterable[Path]) -> list[Path]:
    """Without links that lead nowhere."""
    return [path for path in paths if path.exists()]


def _step(checkpoint: Path) -> tuple[int, float]:
    match = re.search(r"step=(\d+)", checkpoint.name)
    return int(match[1]) if match else -1, written_at(checkpoint)


def _version(run: Path) -> int:
    match = re.fullmatch(r"version_(\d+)", run.name)
    return int(match[1]) if match else -1


def _written_at(run: Path) -> float:
    checkpoint = newest_checkpoint(run / CHECKPOINTS)
    return 0.0 if checkpoint is None else written_at(checkpoint)


def free_number(folder: Path, names: Sequence[str]) -> int:
    """The first number with which none of some files is in a folder; 0, which is not written, for none at all."""
    return next(k for k in count() if not any(os.path.lexists(folder / numbered(name, k)) for name in names))


def numbered(name: str, number: int) -> str:
    """A file's name with ``-v1`` (or another number) behind its stem; with 0 the name itself."""
    stem, ending = os.path.splitext(name)
    return name if number == 0 else f"{stem}-v{number}{ending}"
