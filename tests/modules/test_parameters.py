"""Every parameter takes part in every training step, or DDP would wait for its gradient in vain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import BUILDERS, batch, learner

from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.modules.base import TrainedModule

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


def without_gradient(module: TrainedModule) -> list[str]:
    module.training_step(batch(), 0).backward()
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    "settings",
    [{}, {"intra_weight": 0.0}, {"intra_weight": 0.0, "inter_weight": 0.0}, {"audio_mask_ratio": 0.0}],
    ids=str,
)
@pytest.mark.parametrize("name", BUILDERS)
def test_of_pretraining(name: str, settings: dict[str, Any]) -> None:
    assert without_gradient(PretrainModule(model=learner(name), **settings)) == []


@pytest.mark.parametrize("modalities", ["audio_video", "audio", "video"])
def test_of_fine_tuning(modalities: Any) -> None:
    settings = {"mixup_alpha": 0.5, "token_mask_ratio": 0.5, "freq_mask_bins": 4}
    assert without_gradient(FineTuneModule(backbone=learner(), num_classes=2, modalities=modalities, **settings)) == []


def test_one_that_does_not_is_found() -> None:
    module = PretrainModule(model=learner())
    module.spare = torch.nn.Linear(2, 2)
    assert without_gradient(module) == ["spare.weight", "spare.bias"]
