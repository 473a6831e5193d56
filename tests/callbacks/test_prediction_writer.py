"""The file that ``diffmavil predict`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small import learner, made_data, trainer

from diffmavil.callbacks import PredictionWriter
from diffmavil.modules import FineTuneModule, PretrainModule


def test_features_are_those_of_each_clip_alone(made_clips: Path, tmp_path: Path) -> None:
    module, data = PretrainModule(model=learner()), made_data(made_clips)
    trainer(tmp_path, callbacks=[PredictionWriter()]).predict(module, data)
    written = np.load(tmp_path / "predictions.npz")
    assert written["path"].tolist() == [clip.path for clip in data.clips]
    assert np.isnan(written["start_s"]).all()
    batch = data.prepare(next(iter(data.eval_dataloader([17]))), "cpu")
    with torch.no_grad():
        alone = module.eval().predict_step(batch, 0)
    for stream in ("audio", "video"):
        np.testing.assert_allclose(written[stream][17], alone[stream][0], rtol=1e-4, atol=1e-5)


def test_probabilities_come_with_the_names_of_the_classes(made_clips: Path, tmp_path: Path) -> None:
    data = made_data(made_clips)
    module = FineTuneModule(backbone=learner(), num_classes=10)
    module.classes = [f"class {k}" for k in range(10)]
    trainer(tmp_path, callbacks=[PredictionWriter()]).predict(module, data)
    written = np.load(tmp_path / "predictions.npz")
    assert written["probabilities"].sum(1) == pytest.approx(1.0, abs=1e-5)
    assert written["classes"].tolist() == module.classes
