"""Memory that runs out halves what is in it, once, and changes neither the loss nor the clips of a step."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from ranks import run_ranks
from small import batch, learner, made_data, trainer
from torch import Tensor

from diffmavil.callbacks.reconstruction_images import first_clips
from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.modules.base import TrainedModule
from diffmavil.modules.halving import BatchTooLargeError
from diffmavil.types import Batch, ModelOutput, Reconstruction


def _last_clips(clips: Batch, count: int) -> Batch:
    turned = Batch(**{name: None if value is None else value.flip(0) for name, value in vars(clips).items()})
    last = first_clips(turned, count)
    return Batch(**{name: None if value is None else value.flip(0) for name, value in vars(last).items()})


def _join(first: Reconstruction, second: Reconstruction) -> Reconstruction:
    parts = {
        name: None if value is None else torch.cat([value, getattr(second, name)])
        for name, value in vars(first).items()
    }
    return Reconstruction(**parts)


@pytest.mark.parametrize("padded", [False, True])
def test_the_gradient_is_that_of_both_halves_with_nothing_computed_again(padded: bool) -> None:
    module = PretrainModule(model=learner(), halved=True)
    clips = batch(5, audio_frames=[48, 16, 32, 40, 48], video_frames=[4, 2, 4, 3, 4]) if padded else batch(5)
    torch.manual_seed(1)
    halved = torch.stack([weight * value for weight, value in module.losses(module(clips)).values()]).sum()
    gradient = torch.autograd.grad(halved, list(module.parameters()))

    torch.manual_seed(1)
    settings = {"audio_mask_ratio": 0.8, "video_mask_ratio": 0.8, "num_views": 2}
    first = module.model(first_clips(clips, 3), **settings)
    second = module.model(_last_clips(clips, 2), **settings)
    views = zip(first.audio_embeddings, second.audio_embeddings, strict=True)
    pictures = zip(first.video_embeddings, second.video_embeddings, strict=True)
    output = ModelOutput(
        audio=_join(first.audio, second.audio),
        video=_join(first.video, second.video),
        audio_embeddings=[torch.cat(pair) for pair in views],
        video_embeddings=[torch.cat(pair) for pair in pictures],
    )
    assert len(output.audio_embeddings[0]) == 5, "all clips are each other's negatives"
    whole = torch.stack([weight * value for weight, value in module.losses(output).values()]).sum()
    torch.testing.assert_close(halved, whole)
    torch.testing.assert_close(gradient, torch.autograd.grad(whole, list(module.parameters())))


class Memory(L.Callback):
    """A device whose memory holds the activations of so many clips from step ``begin`` on; keeps count of all."""

    def __init__(self, *, clips: int, begin: int, in_backward: bool) -> None:
        self.clips, self.begin, self.in_backward = clips, begin, in_backward
        self.seen: list[list[int]] = []
        self.passes: list[int] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        encoder = pl_module.model.audio_encoder

        def enter(_: Any, args: tuple[Any, ...]) -> None:
            if torch.is_grad_enabled():
                self.passes.append(len(args[1]))
                if trainer.global_step >= self.begin and len(args[1]) > self.clips and not self.in_backward:
                    raise torch.OutOfMemoryError("CUDA out of memory.")

        def leave(_: Any, args: tuple[Any, ...], tokens: Tensor) -> None:
            if torch.is_grad_enabled() and self.in_backward and tokens.requires_grad:
                tokens.register_hook(fill)

        def fill(gradient: Tensor) -> None:
            if trainer.global_step >= self.begin and len(gradient) > self.clips:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        encoder.register_forward_pre_hook(enter)
        encoder.register_forward_hook(leave)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.seen.append(batch.index.tolist())


MODULES = {
    "pretraining": lambda **kwargs: PretrainModule(model=learner(), lr=1e-3, **kwargs),
    "fine-tuning": lambda **kwargs: FineTuneModule(backbone=learner(), num_classes=10, **kwargs),
}


def _fit(module: TrainedModule, made_clips: Path, folder: Path, *callbacks: L.Callback) -> L.Trainer:
    saves = ModelCheckpoint(dirpath=folder, save_last=True)
    run = trainer(folder, max_epochs=2, callbacks=[saves, *callbacks])
    run.fit(module, made_data(made_clips), weights_only=True)
    return run


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_run_goes_on_in_halves(name: str, in_backward: bool, made_clips: Path, tmp_path: Path) -> None:
    memory = Memory(clips=3, begin=2, in_backward=in_backward)
    module = MODULES[name]()
    with pytest.warns(UserWarning, match="out of memory with 5 clips a batch on rank 0: from here on") as warned:
        run = _fit(module, made_clips, tmp_path, memory)
    assert len([w for w in warned if "out of memory" in str(w.message)]) == 1
    assert run.global_step == 12
    for epoch in (memory.seen[:6], memory.seen[6:]):
        assert len({clip for clips in epoch for clip in clips}) == 30, "each clip once"
    before, after = memory.passes[: memory.passes.index(3)], memory.passes[memory.passes.index(3) :]
    assert set(before) == {5} and set(after) == {2, 3}
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["diffmavil"]["halved"] is True

    again = Memory(clips=3, begin=0, in_backward=in_backward)
    resumed = MODULES[name]()
    run = trainer(tmp_path, max_epochs=3, callbacks=[again], enable_checkpointing=False)
    run.fit(resumed, made_data(made_clips), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert run.global_step == 18 and set(again.passes) == {2, 3}, "a resumed run goes on in halves without a warning"


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("in_backward", [False, True])
def test_the_step_that_ran_out_is_computed_anew(in_backward: bool, made_clips: Path, tmp_path: Path) -> None:
    module, from_the_start = MODULES["pretraining"](), MODULES["pretraining"](halved=True)
    with pytest.warns(UserWarning, match="out of memory"):
        _fit(module, made_clips, tmp_path / "a", Memory(clips=3, begin=0, in_backward=in_backward))
    _fit(from_the_start, made_clips, tmp_path / "b")
    for ours, theirs in zip(module.parameters(), from_the_start.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_second_time_ends_the_run_in_one_line(made_clips: Path, tmp_path: Path) -> None:
    said = "out of memory with 5 clips a batch, put through in halves: go on from .* with a smaller data.batch_size$"
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(BatchTooLargeError, match=said):
        _fit(MODULES["pretraining"](), made_clips, tmp_path, Memory(clips=2, begin=2, in_backward=False))


class _InTheSecondOfTwo(Memory):
    """Runs out in the batch that completes two whose gradients are accumulated."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        self.begin = 0 if batch_idx == 1 else 1_000


def test_accumulated_gradients_are_not_lost_but_end_the_run(made_clips: Path, tmp_path: Path) -> None:
    memory = _InTheSecondOfTwo(clips=3, begin=0, in_backward=False)
    run = trainer(tmp_path, accumulate_grad_batches=2, callbacks=[memory])
    with pytest.raises(BatchTooLargeError, match="smaller data.batch_size or model.halved: true"):
        run.fit(MODULES["pretraining"](), made_data(made_clips))


class _OnTheSecondRank(Memory):
    """One process has less memory than the other."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_rank == 1:
            super().on_fit_start(trainer, pl_module)


def one_rank(made_clips: Path, folder: Path) -> None:
    memory = _OnTheSecondRank(clips=3, begin=1, in_backward=False)
    run = trainer(folder, devices=2, strategy="ddp", callbacks=[memory])
    module = MODULES["pretraining"]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(module, made_data(made_clips))
    said = [str(warning.message) for warning in caught if "out of memory" in str(warning.message)]
    result = {"steps": run.global_step, "halved": module.halved, "said": said, "weights": module.state_dict()}
    torch.save(result, folder / f"{run.global_rank}.pt")


@pytest.mark.ddp
@pytest.mark.slow
def test_a_rank_that_runs_out_in_the_forward_pass_goes_on_in_halves(made_clips: Path, tmp_path: Path) -> None:
    run_ranks(__file__, str(made_clips), str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["steps"] == second["steps"] == 6
    assert (first["halved"], first["said"]) == (False, [])
    (said,) = second["said"]
    assert second["halved"] and said.startswith("out of memory with 5 clips a batch on rank 1: from here on")
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), "the ranks are still in step"


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), Path(sys.argv[2]))
