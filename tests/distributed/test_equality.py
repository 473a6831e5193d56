"""Two ranks, under DDP and under FSDP2, against one process with the joined batch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from rank_runs import CASES, RESUMED, file_name, train
from ranks import ROOT, run_ranks
from small import learner
from torch import Tensor

from diffmavil import keys
from diffmavil.models.checkpoint_folder import check_folder
from diffmavil.models.checkpoints import CheckpointError
from diffmavil.models.origin import load_pretrained

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]
STRATEGIES = ["ddp", "fsdp"]
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where two ranks have trained everything, once for all workers of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "trained"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").is_file():
            folder.mkdir(exist_ok=True)
            run_ranks(str(ROOT / "tests" / "rank_runs.py"), str(folder))
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Results]:
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Each case in one process, over two epochs."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: train(case, folder, epochs=2) for case in CASES}


def norm(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.norm() for value in values]).norm()


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """To 1e-5 of the norm, of all parameters together and of each; rounding is 1e-6 of the one, 2e-6 of the other."""
    assert got.keys() == wanted.keys()
    errors = {name: got[name] - value for name, value in wanted.items()}
    whole = norm(wanted.values())
    assert norm(errors.values()) <= 1e-5 * whole
    for name, error in errors.items():
        own = wanted[name].norm().clamp(min=1e-5 * whole)  # a gradient can be nothing but rounding
        assert error.norm() <= 1e-5 * own, f"{name}: {error.norm() / own}"


def mean_losses(ranks: list[Results], run: str) -> Tensor:
    return torch.stack([torch.stack(rank[run]["losses"]) for rank in ranks]).mean(0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_loss_and_gradients_are_those_of_one_process(
    ranks: list[Results], alone: Results, strategy: str, case: str
) -> None:
    run = f"{strategy} {case}"
    losses = mean_losses(ranks, run)
    torch.testing.assert_close(losses, torch.stack(alone[case]["losses"])[: len(losses)], rtol=1e-5, atol=1e-5)
    own = torch.stack(ranks[0][run]["losses"])
    assert not torch.allclose(own, losses, rtol=1e-3, atol=0), "each rank has its own clips"
    for rank in ranks:
        assert_close(rank[run]["gradients"], alone[case]["gradients"])
        assert_close(rank[run]["clipped"], alone[case]["clipped"])
    before, after = (norm(alone[case][name].values()) for name in ("gradients", "clipped"))
    assert before > 0.1 and abs(after - 0.01) < 1e-5, "there was something to clip"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_metrics_are_those_of_one_process(ranks: list[Results], alone: Results, strategy: str) -> None:
    wanted = alone["fine-tuning"]["metrics"][0]
    assert 0.1 < wanted["val/mAP"] < 0.95
    for rank in ranks:
        for name in ("val/mAP", "val/loss"):
            torch.testing.assert_close(rank[f"{strategy} fine-tuning"]["metrics"][0][name], wanted[name])


# where clips are padded, a process weighs its patches within its own clips
@pytest.mark.parametrize(("case", "rtol"), [("pretraining", 1e-5), ("pretraining, padded", 1e-2)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rank_without_clips_adds_nothing_to_a_validation(
    ranks: list[Results], alone: Results, strategy: str, case: str, rtol: float
) -> None:
    wanted = alone[case]["metrics"][0]
    first, second = (rank[f"{strategy} {case}"]["metrics"][0] for rank in ranks)
    for name in (keys.LOSS_RECONSTRUCTION_AUDIO, keys.LOSS_RECONSTRUCTION_VIDEO):
        torch.testing.assert_close(first[f"val/{name}"], wanted[f"val/{name}"], rtol=rtol, atol=0)
    assert all(value == second[name] and value.isfinite() for name, value in first.items() if name.startswith("val/"))


# --- checkpoints ---


def assert_same_state(start: dict[str, Any], end: dict[str, Any]) -> None:
    """Weights, moments, step counts and settings of each parameter."""
    assert start.keys() == end.keys()
    for name, state in end.items():
        assert start[name].keys() == state.keys() and "exp_avg_sq" in state
        for key, value in state.items():
            assert start[name][key] == value, f"{key} of {name}"


@pytest.mark.parametrize(("source", "strategy", "case"), RESUMED)
def test_a_checkpoint_goes_on_under_another_strategy(
    ranks: list[Results], alone: Results, source: str, strategy: str, case: str
) -> None:
    run = f"{source} to {strategy} {case}"
    for rank in ranks:
        assert_same_state(rank[run]["start"], rank[f"{source} {case}"]["end"])
    losses = torch.cat([mean_losses(ranks, f"{source} {case}"), mean_losses(ranks, run)])
    torch.testing.assert_close(losses, torch.stack(alone[case]["losses"]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["pretraining", "fine-tuning"])
@pytest.mark.parametrize("source", STRATEGIES)
def test_a_checkpoint_goes_on_in_one_process(
    folder: Path, ranks: list[Results], alone: Results, source: str, case: str
) -> None:
    again = train(case, folder, source=file_name(source, case), epochs=2)
    assert_same_state(again["start"], ranks[0][f"{source} {case}"]["end"])
    wanted = torch.stack(alone[case]["losses"])[-len(again["losses"]) :]
    torch.testing.assert_close(torch.stack(again["losses"]), wanted, rtol=1e-3, atol=1e-4)


def test_a_folder_of_shards_goes_on_and_is_refused_elsewhere(folder: Path, ranks: list[Results]) -> None:
    for rank in ranks:
        assert_same_state(rank["shards to shards"]["start"], rank["shards"]["end"])
    check_folder(folder / "shards.ckpt", "it")
    with pytest.raises(CheckpointError, match="shards.ckpt is a folder of shards, which only ModelParallelStrategy"):
        load_pretrained(folder / "shards.ckpt", learner())
