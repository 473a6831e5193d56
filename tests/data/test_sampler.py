"""Which clips are read when."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from diffmavil.data.dataset import Request
from diffmavil.data.order import AsListed, Balanced, Order, Shuffled, ShuffledInBlocks
from diffmavil.data.sampler import EpochSampler

INDICES = [3 * k + 1 for k in range(53)]


def training(
    batch_size: int | Callable[[int], int],
    *,
    indices: list[int] = INDICES,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world: int = 1,
) -> EpochSampler:
    order = Shuffled(indices, seed=seed)
    return EpochSampler(order=order, batch_size=batch_size, training=True, epoch=epoch, rank=rank, world=world)


def ids(batches: list[list[Request]]) -> list[int]:
    return [index for batch in batches for _, index, _ in batch]


def ranks(world: int, epoch: int = 0, seed: int = 0, batch_size: int = 4) -> list[list[list[Request]]]:
    """The batches of every rank of a training epoch."""
    return [list(training(batch_size, seed=seed, epoch=epoch, rank=rank, world=world)) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_reads_every_clip_once_but_the_remainder(world: int) -> None:
    batches = ranks(world)
    assert {len(part) for part in batches} == {len(INDICES) // (4 * world)}
    assert all(len(batch) == 4 for part in batches for batch in part)
    read = [index for part in batches for index in ids(part)]
    assert len(set(read)) == len(read) == len(INDICES) // (4 * world) * 4 * world
    assert set(read) <= set(INDICES)


def test_remainder_and_order_differ_between_epochs_and_seeds() -> None:
    dropped = [frozenset(INDICES) - frozenset(ids(ranks(2, epoch)[0] + ranks(2, epoch)[1])) for epoch in range(5)]
    assert all(len(rest) == 5 for rest in dropped) and len(set(dropped)) == 5
    orders = {tuple(ids(ranks(1, epoch, seed)[0])) for epoch, seed in itertools.product(range(3), range(3))}
    assert len(orders) == 9


def test_ranks_together_read_the_batches_of_one_process() -> None:
    one = ranks(1, batch_size=8)[0]
    for batch, first, second in zip(one, *ranks(2, batch_size=4), strict=True):
        assert sorted(batch) == sorted(first + second)


def test_batches_are_a_pure_function() -> None:
    sampler = training(4, seed=5, epoch=3)
    first = list(sampler)
    assert list(sampler) == first
    assert first == list(training(4, seed=5, epoch=3))
    sampler.sampler.set_epoch(4)
    assert list(sampler) == list(training(4, seed=5, epoch=4))
    assert {epoch for batch in sampler for epoch, _, _ in batch} == {4}


def test_an_epoch_is_gone_on_with_from_its_next_batch() -> None:
    left = training(4, epoch=3, world=2)
    left.given = 2
    for rank in range(2):
        sampler = training(4, rank=rank, world=2)
        sampler.load_state_dict(left.state_dict())
        sampler.set_epoch(3)
        assert list(sampler) == ranks(2, epoch=3)[rank][2:]
        assert len(sampler) == 6, "the length is the whole epoch's"
        sampler.given = 1
        assert sampler.state_dict()["batches"] == 3
        sampler.set_epoch(4)
        assert list(sampler) == ranks(2, epoch=4)[rank]
    same = training(8)
    same.load_state_dict(left.state_dict())
    assert list(same) == ranks(1, epoch=3, batch_size=8)[0][2:], "one process with the same global batch"


def test_a_middle_is_not_gone_on_with_by_other_batches() -> None:
    left = training(4, epoch=3, world=2)
    left.given = 2
    other = training(4)
    with pytest.raises(ValueError, match="data.batch_size times the number of processes must be 8, .* got 4"):
        other.load_state_dict(left.state_dict())
    fewer = training(8, indices=INDICES[1:])
    with pytest.raises(ValueError, match="the number of training clips must be 53, .* got 52"):
        fewer.load_state_dict(left.state_dict())
    left.given = 6
    other.load_state_dict(left.state_dict())
    assert list(other) == ranks(1, epoch=4)[0]


def test_a_full_epoch_is_the_start_of_the_next() -> None:
    sampler = training(lambda epoch: 4 + epoch, epoch=1)
    assert {len(batch) for batch in sampler} == {5}
    sampler.given = len(sampler)
    state = sampler.state_dict()
    assert state == {"epoch": 2, "batches": 0}
    sampler.load_state_dict(state)
    assert (len(sampler), {len(batch) for batch in sampler}) == (53 // 6, {6})
    sampler.given = 3
    sampler.set_epoch(3)
    assert (sampler.state_dict()["epoch"], sampler.state_dict()["batches"]) == (3, 0)


@pytest.mark.parametrize(("world", "batch_size"), [(1, 4), (2, 4), (4, 16), (4, 1)])
def test_evaluation_reads_every_clip_once_in_equally_many_batches(world: int, batch_size: int) -> None:
    samplers = [
        EpochSampler(order=AsListed(INDICES), batch_size=batch_size, training=False, rank=rank, world=world)
        for rank in range(world)
    ]
    batches = [list(sampler) for sampler in samplers]
    assert {len(part) for part in batches} == {len(samplers[0])}
    assert sorted(index for part in batches for index in ids(part)) == INDICES
    if world == 1:
        assert ids(batches[0]) == INDICES


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        training(0)
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        training(1, rank=2, world=2)
    with pytest.raises(ValueError, match="batch_size must be at most 26 with 53 training clips on 2 processes, got 27"):
        training(27, world=2)


ORDERS = [
    Shuffled(np.array(INDICES), seed=1),
    Shuffled(np.array(INDICES), clips=20, seed=1),
    ShuffledInBlocks(np.array(INDICES), blocks=np.arange(53) // 5, together=3, seed=1),
    Balanced(np.array(INDICES), weights=np.linspace(0, 1, 53), clips=1000, seed=1),
]


@pytest.mark.parametrize("order", ORDERS)
def test_orders_are_pure_functions_of_seed_and_epoch(order: Order) -> None:
    assert order(3).tolist() == order(3).tolist() != order(4).tolist()
    assert len(order(3)) == order.clips and set(order(3).tolist()) <= set(INDICES)
    assert order.repeats or len(set(order(3).tolist())) == order.clips, "no clip comes twice"


def test_a_clip_that_is_drawn_again_has_another_window() -> None:
    order = Balanced(np.array([7, 8]), weights=np.array([1.0, 3.0]), clips=40)
    one = list(EpochSampler(order=order, batch_size=4, training=True))
    requests = [request for batch in one for request in batch]
    assert len(set(requests)) == 40 and {request.clip for request in requests} == {7, 8}
    two = [list(EpochSampler(order=order, batch_size=2, training=True, rank=rank, world=2)) for rank in range(2)]
    assert sorted(requests) == sorted(request for part in two for batch in part for request in batch)
    assert {request.draw for batch in ranks(1)[0] for request in batch} == {0}, "where no clip comes twice"


def test_a_middle_is_not_gone_on_with_in_another_order() -> None:
    left = training(4)
    left.given = 2
    with pytest.raises(ValueError, match="the clips must come in the order in which epoch 0 was left"):
        training(4, seed=1).load_state_dict(left.state_dict())
    same = training(2, world=2)
    same.load_state_dict(left.state_dict())
    assert len(list(same)) == len(left) - 2


def test_blocks_are_read_one_after_the_other_and_mixed() -> None:
    order = ShuffledInBlocks(np.arange(4000), blocks=np.arange(4000) // 100, together=4, seed=0)
    read = order(0)
    assert sorted(read.tolist()) == list(range(4000))
    windows = [set((read[k : k + 400] // 100).tolist()) for k in range(0, 4000, 400)]
    assert all(len(window) == 4 for window in windows) and len(set.union(*windows)) == 40
    neighbours = float(np.mean(read[1:] // 100 == read[:-1] // 100))
    assert 0.2 < neighbours < 0.3, "one in four, as in a shuffle of four blocks"
    assert any(sorted(window) != list(range(min(window), min(window) + 4)) for window in windows)


def test_balanced_draws_follow_their_weights() -> None:
    weights = np.array([1.0, 2.0, 0.0, 5.0])
    drawn = Counter(Balanced(np.array([7, 8, 9, 10]), weights=weights, clips=80_000, seed=0)(0).tolist())
    assert [drawn[k] / 10_000 for k in (7, 8, 9, 10)] == pytest.approx([1, 2, 0, 5], abs=0.15)


def test_an_epoch_of_a_given_size() -> None:
    for clips in (0, 54):
        with pytest.raises(
            ValueError, match=f"clips_per_epoch must be between 1 and the 53 training clips, got {clips}"
        ):
            Shuffled(np.array(INDICES), clips=clips)
    assert len({tuple(Shuffled(np.array(INDICES), clips=20)(epoch)) for epoch in range(5)}) == 5
    with pytest.raises(ValueError, match="balanced needs training clips with labels, got none"):
        Balanced(np.array(INDICES), weights=np.zeros(53))
