"""Which clips are read when."""

from __future__ import annotations

import itertools

import pytest

from diffmavil.data.sampler import EpochSampler

INDICES = [3 * k + 1 for k in range(53)]


def ids(batches: list[list[tuple[int, int]]]) -> list[int]:
    return [index for batch in batches for _, index in batch]


def ranks(world: int, epoch: int = 0, seed: int = 0, batch_size: int = 4) -> list[list[list[tuple[int, int]]]]:
    """The batches of every rank of a training epoch."""
    return [
        list(
            EpochSampler(
                indices=INDICES,
                batch_size=batch_size,
                shuffle=True,
                seed=seed,
                epoch=epoch,
                rank=rank,
                world=world,
            )
        )
        for rank in range(world)
    ]


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
    sampler = EpochSampler(indices=INDICES, batch_size=4, shuffle=True, seed=5, epoch=3)
    first = list(sampler)
    assert list(sampler) == first
    assert first == list(EpochSampler(indices=INDICES, batch_size=4, shuffle=True, seed=5, epoch=3))
    sampler.sampler.set_epoch(4)
    assert list(sampler) == list(EpochSampler(indices=INDICES, batch_size=4, shuffle=True, seed=5, epoch=4))
    assert {epoch for batch in sampler for epoch, _ in batch} == {4}


def test_an_epoch_is_gone_on_with_from_its_next_batch() -> None:
    left = EpochSampler(indices=INDICES, batch_size=4, shuffle=True, epoch=3, world=2)
    left.given = 2
    for rank in range(2):
        sampler = EpochSampler(indices=INDICES, batch_size=4, shuffle=True, rank=rank, world=2)
        sampler.load_state_dict(left.state_dict())
        sampler.set_epoch(3)
        assert list(sampler) == ranks(2, epoch=3)[rank][2:]
        assert len(sampler) == 6, "the length is the whole epoch's"
        sampler.given = 1
        assert sampler.state_dict()["batches"] == 3
        sampler.set_epoch(4)
        assert list(sampler) == ranks(2, epoch=4)[rank]
    same = EpochSampler(indices=INDICES, batch_size=8, shuffle=True)
    same.load_state_dict(left.state_dict())
    assert list(same) == ranks(1, epoch=3, batch_size=8)[0][2:], "one process with the same global batch"


def test_a_middle_is_not_gone_on_with_by_other_batches() -> None:
    left = EpochSampler(indices=INDICES, batch_size=4, shuffle=True, epoch=3, world=2)
    left.given = 2
    other = EpochSampler(indices=INDICES, batch_size=4, shuffle=True)
    with pytest.raises(ValueError, match="data.batch_size times the number of processes must be 8, .* got 4"):
        other.load_state_dict(left.state_dict())
    fewer = EpochSampler(indices=INDICES[1:], batch_size=8, shuffle=True)
    with pytest.raises(ValueError, match="the number of training clips must be 53, .* got 52"):
        fewer.load_state_dict(left.state_dict())
    left.given = 6
    other.load_state_dict(left.state_dict())
    assert list(other) == ranks(1, epoch=4)[0]


def test_a_full_epoch_is_the_start_of_the_next() -> None:
    sampler = EpochSampler(indices=INDICES, batch_size=lambda epoch: 4 + epoch, shuffle=True, epoch=1)
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
        EpochSampler(indices=INDICES, batch_size=batch_size, shuffle=False, rank=rank, world=world)
        for rank in range(world)
    ]
    batches = [list(sampler) for sampler in samplers]
    assert {len(part) for part in batches} == {len(samplers[0])}
    assert sorted(index for part in batches for index in ids(part)) == INDICES
    if world == 1:
        assert ids(batches[0]) == INDICES


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        EpochSampler(indices=INDICES, batch_size=0, shuffle=True)
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        EpochSampler(indices=INDICES, batch_size=1, shuffle=True, rank=2, world=2)
    with pytest.raises(ValueError, match="batch_size must be at most 26 with 53 training clips on 2 processes, got 27"):
        EpochSampler(indices=INDICES, batch_size=27, shuffle=True, world=2)
