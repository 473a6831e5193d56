"""Negatives from every rank: two gloo processes against one on the joined batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from diffmavil.losses import info_nce
from diffmavil.ops.distributed import gather_ranks

WORLD, ROWS, DIM = 2, 3, 5


def embeddings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(WORLD * ROWS, DIM, generator=generator), torch.randn(WORLD * ROWS, DIM, generator=generator)


def one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    own = slice(rank * ROWS, (rank + 1) * ROWS)
    x, y = (side[own].clone().requires_grad_() for side in embeddings())
    rows, first = gather_ranks(x)
    loss = info_nce(x, y, temperature=0.1)
    loss.backward()
    alone = info_nce(x.detach(), y.detach(), temperature=0.1, across_ranks=False)
    result = {"loss": loss.detach(), "x": x.grad, "y": y.grad, "rows": rows.detach(), "first": first, "alone": alone}
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.ddp
def test_two_ranks_equal_one_with_the_joined_batch(tmp_path: Path) -> None:
    # new processes: what a forked one inherits of torch's threads can make it wait for ever
    commands = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in range(WORLD)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(200) for process in processes] == [0] * WORLD
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    x, y = (side.clone().requires_grad_() for side in embeddings())
    loss = info_nce(x, y, temperature=0.1)
    loss.backward()
    torch.testing.assert_close(torch.stack([rank["loss"] for rank in ranks]).mean(), loss.detach())
    for name, grad in (("x", x.grad), ("y", y.grad)):
        # each rank's loss is a mean over its own rows: DDP's mean over ranks makes it the whole batch's
        torch.testing.assert_close(torch.cat([rank[name] for rank in ranks]) / WORLD, grad)
    for k, rank in enumerate(ranks):
        assert torch.equal(rank["rows"], x.detach())
        assert rank["first"] == k * ROWS
        own = slice(k * ROWS, (k + 1) * ROWS)
        torch.testing.assert_close(rank["alone"], info_nce(x[own], y[own], temperature=0.1).detach())


def test_one_process_gathers_its_own_rows() -> None:
    x = torch.randn(3, 5)
    rows, first = gather_ranks(x)
    assert rows is x and first == 0


if __name__ == "__main__":
    one_rank(int(sys.argv[1]), sys.argv[2])
