"""The file that ``diffmavil predict`` writes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small import learner, made_data, trainer

from diffmavil.callbacks import PredictionWriter
from diffmavil.data import ManifestSource
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


def _documented(kind: str) -> dict[str, str]:
    """The arrays that README lists for a kind of model, and their shapes."""
    rows = [line.split("|")[1:-1] for line in (Path(__file__).parents[2] / "README.md").read_text().splitlines()
            if re.match(r"\| `\w+`.*\| `\(N|\| `\w+`.*\| `\(K", line)]  # fmt: skip
    assert len(rows) == 5, "README has its table"
    return {
        name: shape.strip().strip("`")
        for names, shape, of, _ in rows
        if of.strip() in ("every model", f"a {kind} model")
        for name in re.findall(r"`(\w+)`", names)
    }


@pytest.mark.parametrize("kind", ["pretrained", "fine-tuned"])
def test_the_file_is_as_the_readme_says_and_an_earlier_one_stays(
    kind: str, made_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "clips.csv").write_text(
        f"path,label,start_s\n{made_clips / 'clips'}/000000_bird.mp4,a,0.25\nnowhere.mp4,b,\n"
        f"{made_clips / 'clips'}/000001_bouncing_ball.mp4,c,\n"
    )
    source = ManifestSource(path=tmp_path / "clips.csv", label_column="label")
    module: PretrainModule | FineTuneModule = PretrainModule(model=learner())
    if kind == "fine-tuned":
        module = FineTuneModule(backbone=learner(), num_classes=3)
        module.classes = ["a", "b", "c"]
    caplog.set_level(logging.INFO)
    for k in range(3):
        data = made_data(made_clips, source=source)
        trainer(tmp_path, callbacks=[PredictionWriter()]).predict(module, data)
        suffix = f"-v{k}" if k else ""
        line = f"2 clips in {tmp_path / f'predictions{suffix}.npz'}"
        assert line + "; predictions.npz there is an earlier command's" * (k > 0) in caplog.messages
        skipped = f"skipped 1 of 3 clips: 1 missing file; listed in {tmp_path / f'skipped{suffix}.csv'}"
        assert skipped in caplog.messages
    first = (tmp_path / "predictions.npz").read_bytes()
    assert len(first) == len((tmp_path / "predictions-v2.npz").read_bytes())
    written = np.load(tmp_path / "predictions.npz")
    sizes = {"N": 2, "K": 3, "D": learner().audio_encoder.embed_dim}
    shapes = {
        name: tuple(sizes[axis] for axis in re.findall("[A-Z]", shape)) for name, shape in _documented(kind).items()
    }
    assert {name: written[name].shape for name in written.files} == shapes
    assert [Path(path).name for path in written["path"]] == ["000000_bird.mp4", "000001_bouncing_ball.mp4"]
    assert written["start_s"][0] == 0.25 and np.isnan(written["start_s"][1]) and np.isnan(written["end_s"]).all()
