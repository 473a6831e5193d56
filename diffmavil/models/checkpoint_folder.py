"""A checkpoint that is a folder of shards: looked at as data, before PyTorch reads it.

PyTorch reads the table of contents of such a folder, and the plain values in its shards, with a reader that runs what
they say.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, Final

from diffmavil.models.checkpoint_values import CheckpointError, shown
from diffmavil.models.checkpoints import read_checkpoint

META: Final = "meta.pt"
"""What is neither a weight nor a state of an optimiser: one file of tensors and plain values."""


def read_folder_meta(path: Path) -> dict[str, Any]:
    """Read what a folder of shards says beside weights and optimiser states: mark, origin, loops, callbacks.

    No code runs. The shards are not looked at; that is :func:`check_folder`'s.

    Args:
        path: The folder.

    Raises:
        CheckpointError: If it has none, or if that is damaged or no file of tensors and plain values.
    """
    name = f"checkpoint {path}"
    _regular_file(path, META, name)
    return read_checkpoint(path / META)


def _regular_file(folder: Path, file: str, name: str) -> int:
    """Bytes of a file in the folder, which must be one, and no link or device.

    Raises:
        CheckpointError: If it is none.
    """
    try:
        status = (folder / file).lstat()
    except OSError as error:
        raise CheckpointError(f"{name} is no folder of shards: it has no {file}") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{name} is no folder of shards: {shown(file)} in it must be a file, and no link")
    return status.st_size
