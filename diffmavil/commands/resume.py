"""``--ckpt_path last``: which run is taken up, and that it goes on in its own folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from diffmavil.models.checkpoints import read_checkpoint

LOGS = "lightning_logs"
"""Lightning's name for the folder of a trainer's runs."""


def newest_checkpoint(root: Path) -> Path | None:
    """The newest last checkpoint of the runs under a folder; ``None`` without any.

    Lightning looks for it in the folder of its logger, which by default is a new one.

    Args:
        root: The trainer's ``default_root_dir``, absolute as Lightning keeps it.
    """
    checkpoints = (root / LOGS).glob("version_*/checkpoints/last*.ckpt")
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    found = "none" if newest is None else newest.relative_to(root)
    rank_zero_info(f"last checkpoint under {root}: {found}")
    return newest


def run_of(checkpoint: Path) -> TensorBoardLogger:
    """Logger that goes on with the run of a checkpoint.

    What the run had logged after the checkpoint is dropped: those steps are going to be done again.

    Args:
        checkpoint: A file, or a folder of shards, of which the step is not known.

    Raises:
        CheckpointError: If it cannot be read.
    """
    run = checkpoint.parent.parent
    name = run.name.removeprefix("version_")
    version = int(name) if name.isdigit() else run.name
    step = None if checkpoint.is_dir() else read_checkpoint(checkpoint).get("global_step")
    return TensorBoardLogger(run.parent.parent, name=LOGS, version=version, purge_step=step)
