"""Pretraining: the objective adds up, it learns, it resumes, and the right things move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small import AUDIO_SIZE, VIDEO_SIZE, batch, learner, made_data, trainer

from diffmavil import keys
from diffmavil.losses import info_nce, reconstruction_loss
from diffmavil.models.checkpoints import CheckpointError
from diffmavil.models.origin import load_pretrained
from diffmavil.modules import PretrainModule


def test_the_objective_is_the_weighted_sum_of_its_terms() -> None:
    module = PretrainModule(model=learner(), inter_weight=0.3, intra_weight=0.02)
    output = module(batch())
    terms = module.losses(output)
    sound, picture = output.audio_embeddings, output.video_embeddings
    expected = {
        keys.LOSS_RECONSTRUCTION_AUDIO: (1.0, reconstruction_loss(output.audio.prediction, output.audio.target)),
        keys.LOSS_RECONSTRUCTION_VIDEO: (1.0, reconstruction_loss(output.video.prediction, output.video.target)),
        keys.LOSS_INTER: (0.3, info_nce(sound[0], picture[0], temperature=0.1)),
        keys.LOSS_INTRA_AUDIO: (0.02, info_nce(sound[0], sound[1], temperature=1.0)),
        keys.LOSS_INTRA_VIDEO: (0.02, info_nce(picture[0], picture[1], temperature=1.0)),
    }
    assert terms.keys() == expected.keys()
    for name, (weight, value) in expected.items():
        assert terms[name][0] == weight
        torch.testing.assert_close(terms[name][1], value)


def test_what_is_trained_and_logged_is_that_sum(made_clips: Path, tmp_path: Path) -> None:
    module = PretrainModule(model=learner(), inter_weight=0.3, intra_weight=0.02)
    run = trainer(tmp_path, enable_checkpointing=False, limit_test_batches=1)
    (scores,) = run.test(module, made_data(made_clips), verbose=False)
    weights = {keys.LOSS_INTER: 0.3, keys.LOSS_INTRA_AUDIO: 0.02, keys.LOSS_INTRA_VIDEO: 0.02}
    terms = {name.removeprefix("test/"): value for name, value in scores.items() if name != f"test/{keys.LOSS}"}
    total = sum(weights.get(name, 1.0) * value for name, value in terms.items())
    assert len(terms) == 5
    assert scores[f"test/{keys.LOSS}"] == pytest.approx(total, rel=1e-5)


def test_one_view_is_encoded_where_two_are_not_compared() -> None:
    module = PretrainModule(model=learner(), intra_weight=0.0)
    assert len(module(batch()).audio_embeddings) == 1


def test_a_clip_may_be_masked_several_times_in_a_step() -> None:
    module = PretrainModule(model=learner(), num_masks=3)
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    clips = batch()
    torch.manual_seed(0)
    one_by_one = torch.stack([module.total(module.losses(module(clips))) for _ in range(3)])
    assert len(set(one_by_one.tolist())) == 3, "each with masks and noise of its own"
    torch.manual_seed(0)
    torch.testing.assert_close(module.training_step(clips, 0), one_by_one.mean())
    single = PretrainModule(model=learner()).forward_flops(AUDIO_SIZE, VIDEO_SIZE)
    assert module.forward_flops(AUDIO_SIZE, VIDEO_SIZE) == {part: 3 * flops for part, flops in single.items()}


class _Losses(ModelCheckpoint):
    """Records the loss, the clips and the step sizes of every step."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen: list[tuple[float, list[int], float]] = []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The resumed run keeps its checkpoints in a folder of its own."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((outputs["loss"].item(), batch.index.tolist(), lr))


def _fit(made_clips: Path, folder: Path, ckpt_path: Path | None = None) -> _Losses:
    losses = _Losses(dirpath=folder, save_last=True, every_n_epochs=1, save_top_k=-1, filename="{epoch}")
    module = PretrainModule(model=learner(), lr=2e-3)
    run = trainer(folder, max_epochs=4, callbacks=[losses])
    run.fit(module, datamodule=made_data(made_clips), ckpt_path=ckpt_path, weights_only=True)
    return losses


def test_learns_with_step_sizes_that_follow_progress_and_resumes_exactly(made_clips: Path, tmp_path: Path) -> None:
    whole = _fit(made_clips, tmp_path / "whole").seen
    first, last = (sum(loss for loss, *_ in part) / 6 for part in (whole[:6], whole[-6:]))
    assert len(whole) == 4 * 6
    assert last < first - 0.05
    rates = [lr for *_, lr in whole]
    assert rates[0] == 0.0
    peak = rates.index(max(rates))
    assert peak / len(rates) == pytest.approx(0.2, abs=0.05)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    resumed = _fit(made_clips, tmp_path / "resumed", tmp_path / "whole" / "epoch=1.ckpt").seen
    assert resumed == whole[12:], "losses, clips and step sizes, bit for bit"


def test_the_checkpoint_of_another_model_is_refused(made_clips: Path, tmp_path: Path) -> None:
    data = made_data(made_clips)
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, enable_checkpointing=False)
    run.fit(PretrainModule(model=learner()), datamodule=data)
    run.save_checkpoint(tmp_path / "own.ckpt")
    content = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert content["diffmavil"]["module"] == "PretrainModule"
    again = trainer(tmp_path, max_epochs=1)
    with pytest.raises(CheckpointError, match="does not fit the config: "):
        again.test(PretrainModule(model=learner("mavil")), data, ckpt_path=tmp_path / "own.ckpt", weights_only=True)


def test_predict_gives_embeddings_of_whole_clips(made_clips: Path, tmp_path: Path) -> None:
    module = PretrainModule(model=learner())
    parts = trainer(tmp_path).predict(module, made_data(made_clips))
    assert parts is not None
    index = torch.cat([part["index"] for part in parts])
    assert index.tolist() == list(range(40))
    assert torch.cat([part["audio"] for part in parts]).shape == (40, 128)
    assert torch.cat([part["video"] for part in parts]).shape == (40, 128)


def test_weights_of_a_vit_are_loaded_and_what_did_not_fit_is_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = learner(seed=1).video_encoder
    state = {name.removeprefix("transformer."): v for name, v in encoder.transformer.state_dict().items()}
    torch.save({"model": {**state, "pos_embed": torch.zeros(1)}}, tmp_path / "mae.pth")
    model = learner(seed=2)
    with caplog.at_level("INFO"):
        PretrainModule(model=model, video_weights=str(tmp_path / "mae.pth"))
    for name, value in model.video_encoder.transformer.state_dict().items():
        assert torch.equal(value, encoder.transformer.state_dict()[name])
    assert "patch_embed.bias, patch_embed.weight; not used: pos_embed" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_mask_ratio": 1.0}, r"audio_mask_ratio must be in \[0, 1\), got 1.0"),
        ({"inter_weight": -1.0}, "inter_weight must be at least 0, got -1.0"),
        ({"intra_temperature": 0.0}, "intra_temperature must be above 0, got 0.0"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\), got 1.0"),
        ({"lr_end": 2.0}, r"lr_end must be in \[0, 1\], got 2.0"),
    ],
)
def test_refuses_values_outside_their_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PretrainModule(model=learner(), **change)


class _OwnObjective(PretrainModule):
    """A subclass outside of the package."""


def test_a_subclass_from_elsewhere_writes_checkpoints_that_others_can_start_from(
    made_clips: Path, tmp_path: Path
) -> None:
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, enable_checkpointing=False)
    own = _OwnObjective(model=learner(seed=1))
    run.fit(own, made_data(made_clips))
    run.save_checkpoint(tmp_path / "own.ckpt")
    target = learner(seed=2)
    load_pretrained(tmp_path / "own.ckpt", target)
    for one, two in zip(own.model.parameters(), target.parameters(), strict=True):
        assert torch.equal(one, two)
