"""LightningModules: they wire models, losses and metrics together, and log."""

from diffmavil.modules.finetune import FineTuneModule
from diffmavil.modules.linear_probe import LinearProbe
from diffmavil.modules.pretrain import PretrainModule

__all__ = ["FineTuneModule", "LinearProbe", "PretrainModule"]
