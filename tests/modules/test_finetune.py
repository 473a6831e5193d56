"""Fine-tuning: losses against closed forms, metrics against scikit-learn, and a run that learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.metrics import average_precision_score
from small import batch, learner, made_data, trainer
from torch.nn.functional import softplus

from diffmavil.data import ManifestSource
from diffmavil.models.checkpoints import mark_checkpoint
from diffmavil.modules import FineTuneModule


def test_cross_entropy_with_smoothed_labels_by_hand() -> None:
    module = FineTuneModule(backbone=learner(), num_classes=3, label_smoothing=0.3)
    scores, clips = torch.randn(3, 3), batch()
    assert clips.labels is not None
    expected = 0.0
    for row, label in zip(scores.log_softmax(1).tolist(), clips.labels.tolist(), strict=True):
        expected -= sum((0.7 * (k == label) + 0.1) * value for k, value in enumerate(row)) / 3
    assert module._loss(scores, clips).item() == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_of_several_labels_by_hand() -> None:
    module = FineTuneModule(backbone=learner(), num_classes=2, multi_label=True)
    clips, scores = batch(), torch.randn(3, 2)
    clips.labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    expected = torch.where(clips.labels > 0, softplus(-scores), softplus(scores)).mean()
    torch.testing.assert_close(module._loss(scores, clips), expected)


def test_learns_the_clips_it_sees_and_scores_them(made_clips: Path, tmp_path: Path) -> None:
    module = FineTuneModule(
        backbone=learner(), num_classes=10, modalities="audio_video", lr=3e-3, layer_decay=1.0, mixup_alpha=0.0
    )
    data = made_data(made_clips, batch_size=10, horizontal_flip=False, crop_min_scale=1.0, test_splits=["train"])
    run = trainer(tmp_path, max_epochs=12, enable_checkpointing=False)
    run.fit(module, data)
    (scores,) = run.test(module, data, verbose=False)
    assert scores["test/accuracy"] > 0.5, "chance is 0.1"


def test_mean_average_precision_is_that_of_scikit_learn(made_clips: Path, tmp_path: Path) -> None:
    lines = (made_clips / "manifest.csv").read_text().splitlines()
    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    loud = {row["path"]: float(row["loudness_dbfs"]) > -25 for row in rows}
    manifest = tmp_path / "several.csv"
    manifest.write_text(
        "path,split,tags\n"
        + "".join(
            f"{row['path']},{row['split']},{row['label']};{'loud' if loud[row['path']] else 'soft'}\n" for row in rows
        )
    )
    source = ManifestSource(path=manifest, media_root=made_clips, label_column="tags")
    data = made_data(made_clips, source=source, multi_label=True, modalities="audio")
    module = FineTuneModule(backbone=learner(), num_classes=12, multi_label=True, modalities="audio")
    run = trainer(tmp_path, enable_checkpointing=False)
    (scores,) = run.test(module, data, verbose=False)
    parts = run.predict(module, data)
    assert parts is not None
    probabilities = torch.cat([part["probabilities"] for part in parts])[data.split_indices["test"]]
    truth = torch.zeros(len(data.split_indices["test"]), 12)
    for row, index in enumerate(data.split_indices["test"]):
        truth[row, list(data.clips.class_ids(index))] = 1
    expected = average_precision_score(truth.numpy(), probabilities.numpy(), average="macro")
    assert scores["test/mAP"] == pytest.approx(expected, abs=1e-4)


def test_long_clips_are_scored_in_windows(made_clips: Path, tmp_path: Path) -> None:
    """Against windows that are cut by hand: the manifest's start_s and end_s."""
    manifest = (made_clips / "manifest.csv").read_text().splitlines()
    rows = [line.split(",") for line in manifest[1:] if line.split(",")[1] == "test"][:3]
    (tmp_path / "whole.csv").write_text("path,label\n" + "".join(f"{row[0]},{row[2]}\n" for row in rows))
    cut = [f"{row[0]},{row[2]},{start},{start + 0.48}\n" for row in rows for start in (0.0, 0.51, 1.02)]
    (tmp_path / "cut.csv").write_text("path,label,start_s,end_s\n" + "".join(cut))
    module = FineTuneModule(backbone=learner(), num_classes=3, modalities="audio")
    run = trainer(tmp_path, enable_checkpointing=False)
    found = {}
    for name, windows in (("whole", 3), ("cut", 1)):
        source = ManifestSource(path=tmp_path / f"{name}.csv", media_root=made_clips, label_column="label")
        data = made_data(made_clips, source=source, modalities="audio", clip_s=0.48, eval_windows=windows)
        parts = run.predict(module, data)
        assert parts is not None
        found[name] = torch.cat([part["probabilities"] for part in parts])
    assert found["whole"].shape == (3, 3)
    expected = found["cut"].reshape(3, 3, 3).mean(dim=1)
    torch.testing.assert_close(found["whole"], expected, atol=2e-3, rtol=0)  # a window's last frame reaches beyond it


@pytest.mark.parametrize("clip_s", [1.28, 5.12, 10.24])
def test_clips_of_any_length_are_fine_tuned_from_one_checkpoint(
    clip_s: float, made_clips: Path, tmp_path: Path
) -> None:
    source = learner(seed=1)
    checkpoint = {"state_dict": {f"model.{name}": value for name, value in source.state_dict().items()}}
    mark_checkpoint(checkpoint, "PretrainModule", "test")
    torch.save(checkpoint, tmp_path / "pretrained.ckpt")
    module = FineTuneModule(
        backbone=learner(), checkpoint=tmp_path / "pretrained.ckpt", num_classes=10, modalities="audio"
    )
    data = made_data(made_clips, modalities="audio", clip_s=clip_s)
    trainer(tmp_path, max_steps=1, enable_checkpointing=False).fit(module, data)
    batch = data.prepare(next(iter(data.eval_dataloader([0, 1]))), "cpu")
    assert batch.audio is not None and batch.audio.shape == (2, 1, round(clip_s * 100), 32)
    assert module(batch).shape == (2, 10)


def test_starts_from_the_encoders_of_a_checkpoint(tmp_path: Path) -> None:
    source = learner(seed=1)
    checkpoint: dict[str, object] = {"state_dict": {f"model.{k}": v for k, v in source.state_dict().items()}}
    mark_checkpoint(checkpoint, "PretrainModule", "0")
    torch.save(checkpoint, tmp_path / "pre.ckpt")
    module = FineTuneModule(backbone=learner(seed=2), num_classes=3, checkpoint=tmp_path / "pre.ckpt")
    assert module.model.audio_encoder is not None
    for one, two in zip(source.audio_encoder.parameters(), module.model.audio_encoder.parameters(), strict=True):
        assert torch.equal(one, two)


def test_refuses_data_of_other_classes(made_clips: Path, tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    with pytest.raises(ValueError, match="num_classes must be that of the data, 10, got 7"):
        run.fit(FineTuneModule(backbone=learner(), num_classes=7), made_data(made_clips))
    with pytest.raises(ValueError, match="multi_label must be that of the data, False, got True"):
        run.fit(FineTuneModule(backbone=learner(), num_classes=10, multi_label=True), made_data(made_clips))
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), got 1.0"):
        FineTuneModule(backbone=learner(), num_classes=7, label_smoothing=1.0)
