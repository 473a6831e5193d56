"""The parameters of each part of a model, in a few lines.

The gap: Lightning's summary reads "Total FLOPs: 0", as it counts none here, and shows a model as one row.
"""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities import rank_zero_info
from torch import nn


class PartsSummary(ModelSummary):
    """Says at the start how many parameters there are, by part, and how many of them are trained."""

    def __init__(self) -> None:
        super().__init__()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say it."""
        model = getattr(pl_module, "model", pl_module)
        counts = {name: _parameters(part) for name, part in model.named_children()}
        trained = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        parts = ", ".join(f"{name} {_millions(count)}" for name, count in counts.items() if count)
        whole = _parameters(pl_module)
        note = "" if trained == whole else f", {_millions(trained)} of them trained"
        rank_zero_info(f"parameters: {_millions(whole)}{note} ({parts})")

    @staticmethod
    def summarize(*args: Any, **kwargs: Any) -> None:
        """Nothing more."""


def _parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count}"
