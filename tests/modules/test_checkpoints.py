"""What a checkpoint brings back, and what the config keeps for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from small import learner, made_data, trainer

from diffmavil.callbacks import MaskRatioCurriculum, PredictionWriter
from diffmavil.data import Clip, ClipSource, FolderSource
from diffmavil.models.checkpoints import CheckpointError
from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.schedules import Schedule

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


class _Groups(L.Callback):
    """The optimiser's settings at the first step."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.seen:
            self.seen = {k: v for k, v in trainer.optimizers[0].param_groups[0].items() if k != "params"}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_keeps_the_settings_of_its_config(made_clips: Path, tmp_path: Path) -> None:
    def module(**kwargs: Any) -> PretrainModule:
        return PretrainModule(model=learner(), warmup=0.0, **kwargs)

    first = trainer(tmp_path, max_epochs=1)
    first.fit(module(lr=1e-3, weight_decay=0.5), made_data(made_clips))
    first.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    assert "optimizer_states" not in torch.load(tmp_path / "weights.ckpt", weights_only=True)
    groups = _Groups()
    second = trainer(tmp_path / "second", max_epochs=2, callbacks=[groups])
    changed = module(lr=3e-4, weight_decay=0.25, betas=(0.8, 0.9))
    checkpoint = first.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    second.fit(changed, made_data(made_clips), ckpt_path=checkpoint, weights_only=True)
    assert groups.seen["peak_lr"] == 3e-4 and groups.seen["betas"] == (0.8, 0.9)
    assert groups.seen["lr"] == pytest.approx(3e-4 / 2), "the second of two epochs: half a cosine is half done"
    assert {g["weight_decay"] for g in second.optimizers[0].param_groups} == {0.0, 0.25}


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Be aware that when using `ckpt_path`")
def test_what_a_curriculum_came_to_is_what_a_checkpoint_is_tested_with(made_clips: Path, tmp_path: Path) -> None:
    curriculum = MaskRatioCurriculum(audio=Schedule(start=0.9, end=0.5), video=Schedule(start=0.8, end=0.25))
    run = trainer(tmp_path, callbacks=[curriculum])
    run.fit(PretrainModule(model=learner()), made_data(made_clips))
    checkpoint = run.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    module = PretrainModule(model=learner())
    trainer(tmp_path).test(module, made_data(made_clips), ckpt_path=checkpoint, weights_only=True, verbose=False)
    assert (module.audio_mask_ratio, module.video_mask_ratio) == (0.5, 0.25)
    longer = trainer(tmp_path / "longer", max_epochs=3)
    longer.fit(module, made_data(made_clips), ckpt_path=checkpoint, weights_only=True)
    assert (module.audio_mask_ratio, module.video_mask_ratio) == (0.8, 0.8), "no curriculum here: the config's"


class _Renamed(ClipSource):
    """Another source's clips with other labels."""

    def __init__(self, source: ClipSource, names: dict[str, str]) -> None:
        self.source, self.names = source, names

    def clips(self) -> list[Clip]:
        return [
            Clip(path=clip.path, split=clip.split, labels=tuple(self.names.get(n, n) for n in clip.labels))
            for clip in self.source.clips()
        ]


def test_a_fine_tuned_model_knows_the_names_of_its_classes(made_clips: Path, tmp_path: Path) -> None:
    def module() -> FineTuneModule:
        return FineTuneModule(backbone=learner(), num_classes=10)

    run = trainer(tmp_path, max_epochs=1)
    data = made_data(made_clips)
    run.fit(module(), data)
    checkpoint = run.checkpoint_callback.best_model_path  # type: ignore[union-attr]

    unlabelled = made_data(made_clips, source=FolderSource(root=made_clips / "clips"))
    writing = trainer(tmp_path, callbacks=[PredictionWriter()])
    writing.predict(module(), unlabelled, ckpt_path=checkpoint, weights_only=True)
    assert np.load(tmp_path / "predictions.npz")["classes"].tolist() == data.classes

    source = made_data(made_clips).source
    others = made_data(made_clips, source=_Renamed(source, {data.classes[3]: f"{data.classes[3]}s"}))
    with pytest.raises(CheckpointError, match=f"has a class {data.classes[3]}, not {data.classes[3]}s"):
        trainer(tmp_path).test(module(), others, ckpt_path=checkpoint, weights_only=True, verbose=False)
