"""What a module is run with; Lightning has no way to ask that does not fail where there is nothing."""

from __future__ import annotations

import lightning as L

from diffmavil.data import ClipDataModule


def trainer_of(module: L.LightningModule) -> L.Trainer | None:
    """The trainer that a module is attached to."""
    try:
        return module.trainer
    except RuntimeError:
        return None


def data_of(module: L.LightningModule) -> ClipDataModule | None:
    """The data module that a module is run with, if it is ours."""
    data = getattr(trainer_of(module), "datamodule", None)
    return data if isinstance(data, ClipDataModule) else None
