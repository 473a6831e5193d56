"""Under bf16 autocast every term of a loss is float32, and what the network said is scored as in float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from reference.info_nce import info_nce
from small import batch, learner, made_data, trainer
from torch import Tensor

from diffmavil import keys
from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.types import Batch, Reconstruction


def _squared_error(part: Reconstruction) -> float:
    target, prediction = part.target.double(), part.prediction.detach().double()
    mean = target.mean(-1, keepdim=True)
    variance = (target - mean).square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
    return float((prediction - (target - mean) / (variance + 1e-6).sqrt()).square().mean())


def test_terms_of_pretraining() -> None:
    module = PretrainModule(model=learner(), inter_temperature=0.02, intra_temperature=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(batch(clips=5))
        terms = {name: value for name, (_, value) in module.losses(output).items()}
    assert output.audio.prediction.dtype == torch.bfloat16, "the network itself is in half precision"
    sound, picture = ([view.tolist() for view in views] for views in (output.audio_embeddings, output.video_embeddings))
    expected = {
        keys.LOSS_RECONSTRUCTION_AUDIO: _squared_error(output.audio),
        keys.LOSS_RECONSTRUCTION_VIDEO: _squared_error(output.video),
        keys.LOSS_INTER: info_nce(sound[0], picture[0], 0.02),
        keys.LOSS_INTRA_AUDIO: info_nce(sound[0], sound[1], 0.05),
        keys.LOSS_INTRA_VIDEO: info_nce(picture[0], picture[1], 0.05),
    }
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        assert value.dtype == torch.float32, name
        assert value.item() == pytest.approx(expected[name], rel=1e-5), name


def _cross_entropy(scores: Tensor, labels: Tensor) -> float:
    rows = zip(scores.tolist(), labels.tolist(), strict=True)
    return sum(math.log(math.fsum(map(math.exp, row))) - row[label] for row, label in rows) / len(scores)


def _binary_cross_entropy(scores: Tensor, labels: Tensor) -> float:
    pairs = zip(scores.flatten().tolist(), labels.flatten().tolist(), strict=True)
    return sum(math.log1p(math.exp(score)) - label * score for score, label in pairs) / scores.numel()


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_and_the_probabilities_of_fine_tuning(multi_label: bool) -> None:
    module = FineTuneModule(backbone=learner(), num_classes=3, multi_label=multi_label).eval()
    torch.nn.init.normal_(module.model.head.weight)  # scores that differ
    clips = batch(clips=5)
    if multi_label:
        clips.labels = torch.eye(5, 3)
    assert clips.labels is not None
    with torch.autocast("cpu", torch.bfloat16):
        scores = module(clips)
        loss = module._loss(scores, clips)
        probabilities = module.predict_step(clips, 0)["probabilities"]
    scores = scores.detach()
    expected = (_binary_cross_entropy if multi_label else _cross_entropy)(scores, clips.labels)
    assert loss.dtype == probabilities.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    exact = scores.double()
    exact = 1 / (1 + (-exact).exp()) if multi_label else exact.exp() / exact.exp().sum(1, keepdim=True)
    torch.testing.assert_close(probabilities.double(), exact, rtol=1e-5, atol=0)


class _Inputs(L.Callback):
    """The spectrograms that training was given."""

    def __init__(self) -> None:
        self.audio: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        assert batch.audio is not None
        self.audio.append(batch.audio)


def test_spectrograms_do_not_depend_on_the_precision(made_clips: Path, tmp_path: Path) -> None:
    inputs = {}
    for precision in ("32-true", "bf16-mixed"):
        inputs[precision] = _Inputs()
        run = trainer(
            tmp_path,
            precision=precision,
            max_epochs=1,
            limit_train_batches=1,
            callbacks=[inputs[precision]],
            enable_checkpointing=False,
        )
        run.fit(PretrainModule(model=learner()), made_data(made_clips))
    (full,), (mixed,) = inputs["32-true"].audio, inputs["bf16-mixed"].audio
    assert mixed.dtype == torch.float32 and torch.equal(full, mixed)
