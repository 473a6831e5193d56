"""The callbacks in real runs: the ratios and batches that were used, the FLOPs that were counted, the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from small import AUDIO_SIZE, VIDEO_SIZE, learner, made_data, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffmavil.callbacks import AdaptiveBatchSize, ComputeAccounting, MaskRatioCurriculum, ReconstructionImages
from diffmavil.callbacks.reconstruction_images import reconstruct
from diffmavil.flops import learner_flops
from diffmavil.models.reconstruct import reconstruction_views
from diffmavil.modules import PretrainModule
from diffmavil.nn.encoder import Patches
from diffmavil.ops.patches import patchify
from diffmavil.schedules import Schedule
from diffmavil.types import Batch, Reconstruction

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def _curriculum(per: str = "epoch") -> MaskRatioCurriculum:
    return MaskRatioCurriculum(audio=Schedule(start=0.9, end=0.5), video=Schedule(start=0.8, end=0.6), per=per)


class _Used(L.Callback):
    """What each step was really given."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, list[int], float, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        ratios = pl_module.audio_mask_ratio, pl_module.video_mask_ratio
        self.steps.append((trainer.current_epoch, len(batch.index), batch.index.tolist(), *ratios))


def test_no_batch_is_larger_than_an_epoch_of_a_given_size(made_clips: Path, tmp_path: Path) -> None:
    used = _Used()
    callbacks = [_curriculum(), AdaptiveBatchSize(), used]
    run = trainer(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1, callbacks=callbacks)
    run.fit(PretrainModule(model=learner()), made_data(made_clips, batch_size=4, clips_per_epoch=8))
    assert [step[1] for step in used.steps if step[0] == 0] == [8], "11 clips would cost as much as 4 in the last epoch"


def test_the_ratio_falls_and_the_batch_follows_it(made_clips: Path, tmp_path: Path) -> None:
    used, accounting = _Used(), ComputeAccounting()
    data = made_data(made_clips, batch_size=4)
    run = trainer(
        tmp_path,
        max_epochs=3,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[_curriculum(), AdaptiveBatchSize(), accounting, used],
        enable_checkpointing=False,
    )
    module = PretrainModule(model=learner())
    run.fit(module, data)
    expected_ratios = {0: (0.9, 0.8), 1: (0.7, 0.7), 2: (0.5, 0.6)}
    audio_patches, video_patches = 6, 8

    def visible(epoch: int) -> float:
        audio, video = expected_ratios[epoch]
        return audio_patches * (1 - audio) + video_patches * (1 - video)

    for epoch in range(3):
        steps = [step for step in used.steps if step[0] == epoch]
        size = int(4 * visible(2) / visible(epoch) + 1e-6)
        assert {step[1] for step in steps} == {size}
        assert len(steps) == 30 // size
        ids = [i for step in steps for i in step[2]]
        assert len(set(ids)) == len(ids) == 30 // size * size
        for step in steps:
            assert step[3:] == pytest.approx(expected_ratios[epoch])
    summary = json.loads((tmp_path / "compute.json").read_text())
    by_hand = 0
    for _, clips, _, audio, video in used.steps:
        sizes = {"audio_size": AUDIO_SIZE, "video_size": VIDEO_SIZE, "num_views": 2}
        parts = learner_flops(module.model, audio_mask_ratio=audio, video_mask_ratio=video, **sizes)
        by_hand += 3 * clips * sum(parts.values())
    assert summary["training_flops"] == by_hand
    assert summary["clips"] == sum(step[1] for step in used.steps)
    assert summary["steps"] == len(used.steps)
    assert summary["data_s"] > 0 and summary["step_s"] > 0 and summary["peak_memory_bytes"] > 2**20


def _training_bytes(module: PretrainModule, clips: int) -> int:
    """Bytes of all that the graph of the network's outputs still holds, found by walking it."""
    module.train()
    noise = torch.randn(clips, 1, *AUDIO_SIZE), torch.randn(clips, 3, *VIDEO_SIZE)
    output = module(Batch(index=torch.arange(clips), audio=noise[0], video=noise[1]))
    roots = [output.audio.prediction, output.video.prediction, *output.audio_embeddings, *output.video_embeddings]
    nodes, seen = [root.grad_fn for root in roots], set()
    sizes = {}
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for name in dir(node):
            if name.startswith("_saved_") and isinstance(value := getattr(node, name), torch.Tensor):
                sizes[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    return sum(sizes.values())


@pytest.mark.parametrize("constant", ["flops", "memory"])
def test_a_batch_costs_the_same_flops_or_memory_in_every_epoch(
    constant: Literal["flops", "memory"], made_clips: Path
) -> None:
    module = PretrainModule(model=learner())
    data = made_data(made_clips, batch_size=1000)
    sizes = AdaptiveBatchSize(constant=constant, limit=10**6).sizes(_curriculum(), module, data, 3)
    assert sizes[-1] == 1000 and sizes == sorted(sizes, reverse=True)
    costs = []
    for size, (audio, video) in zip(sizes, [(0.9, 0.8), (0.7, 0.7), (0.5, 0.6)], strict=True):
        module.audio_mask_ratio, module.video_mask_ratio = audio, video
        if constant == "memory":
            torch.manual_seed(0)
            costs.append(size * (_training_bytes(module, 4) - _training_bytes(module, 2)) / 2)
        else:
            masks = {"audio_mask_ratio": audio, "video_mask_ratio": video, "num_views": 2}
            parts = learner_flops(module.model, audio_size=AUDIO_SIZE, video_size=VIDEO_SIZE, **masks)
            costs.append(size * sum(parts.values()))
    assert costs == pytest.approx([costs[-1]] * 3, rel=2e-3)


def test_the_learning_rate_follows_the_batch(made_clips: Path, tmp_path: Path) -> None:
    rates: dict[str, dict[int, float]] = {}

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
            if batch_idx == 0:
                rates[rule][trainer.current_epoch] = trainer.optimizers[0].param_groups[0]["lr"]

    for rule in ("none", "sqrt", "linear"):
        rates[rule] = {}
        callbacks = [_curriculum(), AdaptiveBatchSize(lr_rule=rule), Rates()]
        run = trainer(
            tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1, callbacks=callbacks, enable_checkpointing=False
        )
        run.fit(PretrainModule(model=learner(), warmup=0.0), made_data(made_clips, batch_size=4))
    visible = [6 * (1 - audio) + 8 * (1 - video) for audio, video in [(0.9, 0.8), (0.7, 0.7), (0.5, 0.6)]]
    sizes = [int(4 * visible[2] / tokens + 1e-6) for tokens in visible]
    for epoch, size in enumerate(sizes):
        assert rates["sqrt"][epoch] == pytest.approx(rates["none"][epoch] * (size / 4) ** 0.5)
        assert rates["linear"][epoch] == pytest.approx(rates["none"][epoch] * size / 4)


def test_the_batch_never_outgrows_the_clips(made_clips: Path, tmp_path: Path) -> None:
    used = _Used()
    callbacks = [_curriculum(), AdaptiveBatchSize(), used]
    run = trainer(
        tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1, callbacks=callbacks, enable_checkpointing=False
    )
    data = made_data(made_clips, batch_size=25)
    run.fit(PretrainModule(model=learner()), data)
    assert [step[1] for step in used.steps] == [30, 25], "30 clips to train on"
    sizes = AdaptiveBatchSize(multiple=4).sizes(_curriculum(), PretrainModule(model=learner()), data, 2, clips=30)
    assert sizes == [28, 24], "cut down to the multiple"
    few = made_data(made_clips, batch_size=3)
    few.setup("fit")
    sizes = AdaptiveBatchSize(multiple=8).sizes(_curriculum(), PretrainModule(model=learner()), few, 2)
    assert sizes[-1] == 3 and sizes[0] > 3 and sizes[0] % 3 == 0, "the last epoch's is data.batch_size"
    assert data.batch_size_of_epoch is not None and data.batch_size_of_epoch(2) == 25, "the run is taken up when done"


def test_pictures_are_drawn_where_validation_is_rarer_too(made_clips: Path, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    images = ReconstructionImages(clips=1, every_n_epochs=2)
    settings: dict[str, Any] = {"max_epochs": 4, "check_val_every_n_epoch": 2, "limit_train_batches": 1}
    run = trainer(tmp_path, logger=logger, callbacks=[images], enable_checkpointing=False, **settings)
    run.fit(PretrainModule(model=learner()), made_data(made_clips, val_fraction=0.2))
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    assert len(events.Images("audio/0")) == 2


def test_a_curriculum_by_step_moves_at_every_step(made_clips: Path, tmp_path: Path) -> None:
    used = _Used()
    run = trainer(tmp_path, max_epochs=2, callbacks=[_curriculum("step"), used], enable_checkpointing=False)
    run.fit(PretrainModule(model=learner()), made_data(made_clips))
    ratios = [step[3] for step in used.steps]
    assert ratios == pytest.approx([0.9 - 0.4 * k / 12 for k in range(12)])


def test_a_batch_that_changes_needs_a_loader_in_each_epoch(made_clips: Path, tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[_curriculum(), AdaptiveBatchSize()], enable_checkpointing=False)
    with pytest.raises(ValueError, match="reload_dataloaders_every_n_epochs must be 1, got 0"):
        run.fit(PretrainModule(model=learner()), made_data(made_clips))
    run = trainer(tmp_path, callbacks=[AdaptiveBatchSize()], enable_checkpointing=False)
    with pytest.raises(ValueError, match="AdaptiveBatchSize needs a MaskRatioCurriculum"):
        run.fit(PretrainModule(model=learner()), made_data(made_clips))


def test_the_pictures_show_what_happened(made_clips: Path, tmp_path: Path) -> None:
    data = made_data(made_clips, val_fraction=0.2)
    logger = TensorBoardLogger(tmp_path)
    callbacks: list[L.Callback] = [ReconstructionImages(clips=2)]
    run = trainer(tmp_path, max_epochs=1, logger=logger, callbacks=callbacks, enable_checkpointing=False)
    module = PretrainModule(model=learner())
    run.fit(module, data)
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["audio/0", "audio/1", "video/0", "video/1"]
    raw = next(iter(data.eval_dataloader(range(3))))
    batch = data.prepare(raw, "cpu")
    module.eval()
    with torch.no_grad():
        audio, _ = reconstruct(module, batch)
    original, visible, corrupted, predicted = (
        patchify(x, (16, 16)) for x in (audio.original, audio.visible, audio.corrupted, audio.predicted)
    )
    shown = (visible != 0).any(-1)
    assert torch.equal(visible[shown], original[shown])
    for view in (corrupted, predicted):
        assert torch.equal(view[shown], original[shown]), "visible patches are shown as they are"
        assert ((view != original).any(-1) == ~shown).all()


def test_a_prediction_is_shown_with_the_mean_and_scale_of_the_true_patch() -> None:
    torch.manual_seed(0)
    values = 5 + 3 * torch.randn(1, 4, 256)
    said = torch.randn(1, 1, 256)
    patches = Patches(values, (2, 2), None)
    keep, decode = torch.tensor([[0, 3]]), torch.tensor([[2]])
    reconstruction = Reconstruction(said, values[:, 2:3], None, None, keep, decode, None)
    views = reconstruction_views(patches, (16, 16), reconstruction)
    shown = patchify(views.predicted, (16, 16))
    expected = said[0, 0] * values[0, 2].std() + values[0, 2].mean()
    torch.testing.assert_close(shown[0, 2], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(shown[0, [0, 3]], values[0, [0, 3]])
    assert (shown[0, 1] == 0).all(), "neither seen nor decoded"


def test_refuses_numbers_outside_their_range() -> None:
    with pytest.raises(ValueError, match=r"audio mask ratio must be in \[0, 1\), got 1.2"):
        MaskRatioCurriculum(audio=Schedule(start=1.2, end=0.8), video=Schedule(start=0.9, end=0.8))
    with pytest.raises(ValueError, match="limit must be at least 8, got 4"):
        AdaptiveBatchSize(multiple=8, limit=4)
    with pytest.raises(ValueError, match="clips must be at least 1, got 0"):
        ReconstructionImages(clips=0)
