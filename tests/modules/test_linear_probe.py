"""The linear probe as a whole: its features, its splits and its folds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small import batch, learner, made_data, trainer

from diffmavil.data import Esc50Source
from diffmavil.modules import LinearProbe
from diffmavil.modules.linear_probe import Pooling
from diffmavil.probing import linear_probe


@pytest.mark.parametrize(("pooling", "width"), [("mean", 128), ("time", 2 * 128)])
def test_features_are_means_over_real_patches(pooling: Pooling, width: int) -> None:
    model = learner()
    probe = LinearProbe(backbone=model, pooling=pooling)
    clips = batch(audio_frames=[48, 16, 32])
    with torch.no_grad():
        features = probe.features(clips)
        assert clips.audio is not None
        patches = model.audio_encoder.patchify(clips.audio, clips.audio_frames)
        tokens = model.audio_encoder(patches, patches.all_ids, patches.valid)
    assert features.shape == (3, width)
    for clip, steps in enumerate((3, 1, 2)):
        real = tokens[clip, : 2 * steps].view(steps, 2, 128)
        expected = real.mean((0, 1)) if pooling == "mean" else real.mean(0).flatten()
        torch.testing.assert_close(features[clip], expected, atol=1e-5, rtol=1e-5)


def test_an_earlier_layer_is_read_through_the_final_norm() -> None:
    model, clips = learner(), batch()
    assert clips.audio is not None
    patches = model.audio_encoder.patchify(clips.audio, None)
    with torch.no_grad():
        x = model.audio_encoder.patch_embed(patches.values)
        x = x + model.audio_encoder.positions(patches.grid, patches.all_ids)
        for block in list(model.audio_encoder.transformer.blocks)[:2]:
            x = block(x, None)
        expected = model.audio_encoder.transformer.norm(x).mean(1)
        torch.testing.assert_close(LinearProbe(backbone=model, layer=2).features(clips), expected)


def test_probes_the_made_clips_as_one_would_by_hand(made_clips: Path, tmp_path: Path) -> None:
    probe = LinearProbe(backbone=learner(), modalities="audio_video", pooling="time").eval()
    data = made_data(made_clips, test_splits=["train", "test"])
    (scores,) = trainer(tmp_path).test(probe, data, verbose=False)
    rows = {"train": ([], []), "test": ([], [])}
    for index, clip in enumerate(data.clips):
        (raw,) = data.eval_dataloader([index])
        with torch.no_grad():
            rows[clip.split][0].append(probe.features(data.prepare(raw, "cpu"))[0].numpy())
        rows[clip.split][1].append(data.classes.index(clip.labels[0]))
    by_hand = linear_probe(
        *((np.stack(features), np.array(labels)) for features, labels in rows.values()),
        inverse_regularisations=probe.inverse_regularisations,
    )
    assert scores["test/accuracy"] == pytest.approx(by_hand.score)


def test_every_fold_is_the_test_split_once(made_clips: Path, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for k, clip in enumerate(sorted((made_clips / "clips").iterdir())):
        shutil.copy(clip, tmp_path / "audio" / clip.name)
        rows.append(f"{clip.name},{k // 20 + 1},{k % 10},kind{k % 10},True,x,A")
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    source = Esc50Source(root=tmp_path, fold=None)
    data = made_data(made_clips, source=source, modalities="audio", test_splits=["train", "test"])
    probe = LinearProbe(backbone=learner()).eval()
    (scores,) = trainer(tmp_path).test(probe, data, verbose=False)
    features, labels, folds = [], [], []
    for index, clip in enumerate(data.clips):
        (raw,) = data.eval_dataloader([index])
        with torch.no_grad():
            features.append(probe.features(data.prepare(raw, "cpu"))[0].numpy())
        labels.append(data.classes.index(clip.labels[0]))
        folds.append(clip.fold)
    x, y, fold = np.stack(features), np.array(labels), np.array(folds)
    by_hand = [
        linear_probe(
            (x[fold != k], y[fold != k]),
            (x[fold == k], y[fold == k]),
            inverse_regularisations=probe.inverse_regularisations,
        ).score
        for k in (1, 2)
    ]
    assert [scores[f"test/accuracy_fold{k}"] for k in (1, 2)] == pytest.approx(by_hand)
    assert scores["test/accuracy"] == pytest.approx(sum(by_hand) / 2)


def test_refuses_what_it_cannot_do(made_clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layer must be between 1 and the encoder's depth 3, got 5"):
        LinearProbe(backbone=learner(), layer=5)
    with pytest.raises(ValueError, match="needs clips to fit and to test, got 0 and 10"):
        trainer(tmp_path).test(LinearProbe(backbone=learner()), made_data(made_clips), verbose=False)
