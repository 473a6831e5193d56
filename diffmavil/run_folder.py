"""What the folder of a run holds, and finding runs and their checkpoints.

ROOT/                         trainer.default_root_dir
lightning_logs/version_N/   a run: one folder for each, whatever the logger
config.yaml               all settings
checkpoints/last.ckpt     the newest checkpoint; epoch=E-step=S.ckpt beside it
compute.json, skipped.csv, events.out.tfevents.*
checkpoints/                of runs without a logger
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CONFIG: Final = "config.yaml"
CHECKPOINTS: Final = "checkpoints"
COMPUTE: Final = "compute.json"
LOGS: Final = "lightning_logs"
"""Lightning's name for the folder of a trainer's runs."""

_RUNS: Final = (".", "version_*", "*/version_*")
"""Where runs lie below the folder that a trainer was told to write to."""


class RunFolderError(ValueError):
    """A folder holds no run, or a run no checkpoint; the message says which and what was looked for, in one line."""


def runs_below(root: Path) -> list[Path]:
    """Folders of runs that have checkpoints: the folder itself, and those that a trainer made below it."""
    found = (folder.parent for pattern in _RUNS for folder in root.glob(f"{pattern}/{CHECKPOINTS}"))
    return [run for run in found if newest_checkpoint(run / CHECKPOINTS) is not None]


def _started_below(root: Path) -> list[Path]:
    """Folders of runs that have no checkpoint, but say what they cost."""
    return [path.parent for pattern in _RUNS for path in root.glob(f"{pattern}/{COMPUTE}")]


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
    """The run that a folder means: itself, or as a trainer's ``default_root_dir`` its newest run with checkpoints.

    Raises:
        RunFolderError: If it holds none.
    """
    if any((folder / name).exists() for name in (CONFIG, COMPUTE, CHECKPOINTS)):
        return folder
    run = newest_run(runs_below(folder)) or newest_run(_started_below(folder))
    if run is None:
        raise RunFolderError(f"run must be the folder of a run or one with runs below it, got {folder}")
    return run


def checkpoint_of(run: Path) -> Path:
    """The newest last checkpoint of a run, or its newest checkpoint where it keeps none by this name.

    Raises:
        RunFolderError: If it has none.
    """
    checkpoint = newest_checkpoint(run / CHECKPOINTS) or newest_checkpoint(run / CHECKPOINTS, "*.ckpt")
    if checkpoint is None:
        raise RunFolderError(f"run must have a checkpoint in its folder {CHECKPOINTS}, got {run}")
    return checkpoint


def run_of(checkpoint: Path) -> Path:
    """Folder of the run that a checkpoint is of."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else checkpoint.parent


def newest_checkpoint(folder: Path, pattern: str = "last*.ckpt") -> Path | None:
    """The newest checkpoint in a folder, by time; ``None`` without any."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)


def _version(run: Path) -> int:
    match = re.fullmatch(r"version_(\d+)", run.name)
    return int(match[1]) if match else -1


def _written_at(run: Path) -> float:
    checkpoint = newest_checkpoint(run / CHECKPOINTS)
    return 0.0 if checkpoint is None else checkpoint.stat().st_mtime
