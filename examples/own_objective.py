"""Pretraining with one more term: an objective of one's own.

The term keeps the embeddings of different clips apart by the spread of each of their dimensions, without negatives.
From the repository's root::

    python -m diffmavil fit --config pretrain.yaml --model examples.own_objective.VariancePretrainModule
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diffmavil.modules import PretrainModule
from diffmavil.types import ModelOutput


def variance_loss(x: Float[Tensor, "B D"], *, target: float = 1.0) -> Float[Tensor, ""]:
    """How far the standard deviation of each dimension over the batch falls short of ``target``; mean over dimensions.

    Source: VICReg, arXiv:2105.04906, equation 1.
    """
    std = (x.float().var(dim=0, correction=0) + 1e-4).sqrt()
    return torch.relu(target - std).mean()


class VariancePretrainModule(PretrainModule):
    """:class:`PretrainModule` with the variance of both embeddings as two more terms; its keys are the same."""

    variance_weight = 0.04

    def losses(self, output: ModelOutput) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term, by the name it is logged under."""
        terms = super().losses(output)
        terms["loss_variance_audio"] = self.variance_weight, variance_loss(output.audio_embeddings[0])
        terms["loss_variance_video"] = self.variance_weight, variance_loss(output.video_embeddings[0])
        return terms
