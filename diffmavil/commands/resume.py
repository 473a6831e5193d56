"""``--ckpt_path last``: which run is taken up, and that it goes on in its own folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from diffmavil.models.pretrained import read_checkpoint

LOGS = "lightning_logs"
"""Lightning's name for the folder of a trainer's runs."""


def newest_run(root: Path) -> TensorBoardLogger | None:
    """Logger that goes on with the run under ``root`` whose last checkpoint is the newest; ``None`` without any.

    Lightning looks for the last checkpoint in the folder of its logger, which by default is a new one. What the run
    had logged after the checkpoint is dropped: those steps are going to be done again.

    Args:
        root: The trainer's ``default_root_dir``, absolute as Lightning keeps it.

    Raises:
        CheckpointError: If that checkpoint cannot be read.
    """
    checkpoints = (root / LOGS).glob("version_*/checkpoints/last*.ckpt")
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return None
    step = read_checkpoint(newest).get("global_step")
    return TensorBoardLogger(root, name=LOGS, version=newest.parent.parent.name, purge_step=step)
