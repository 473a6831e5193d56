"""Checkpoint files that are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from diffmavil.data.atomic import whole_file
from diffmavil.models.checkpoints import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it, so that a kill or a full disk leaves the old one whole.

    Lightning's own writes it into the folder for temporary files first; where that is another disk, the move from
    there is a copy that can be cut short. Paths with a scheme (``s3://``) are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write it, have the disk confirm it, and put it in its place.

        Raises:
            OSError: If it cannot be written; what was at ``path`` is still there, and nothing is left beside it.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            # one name for the folder: what a kill leaves is written over by the next checkpoint
            with whole_file(path, path.with_name(".checkpoint.partial")) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch's, when a write fails
            if isinstance(cause, OSError):
                raise OSError(cause.errno, f"{cause.strerror}; what was there is kept", str(path)) from error
            raise

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read it, if its checksums are right.

        Raises:
            CheckpointError: If it is damaged.
        """
        if "://" not in str(path):
            read_checkpoint(Path(path))
        content: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        return content
