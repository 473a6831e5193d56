from __future__ import annotations

import gc
import os
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch import Tensor

from diffmavil.data.batch_memory import BatchMemory, Growing, Parcel, Pool, Pools, _release
from diffmavil.types import RawBatch, Skip

SHAPES = [(3,), (2, 5, 3), (1, 1), (40, 7), (2, 2), (300,), (5, 3)]


def parts(seed: int, dtype: type[np.generic]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 200, shape).astype(dtype) for shape in SHAPES]


def fill(memory: BatchMemory, seed: int) -> RawBatch:
    for part in parts(seed, np.int16):
        memory.waveform.append(*part.shape, dtype=np.int16)[...] = part
    for part in parts(seed + 100, np.uint8):
        memory.frames.append(*part.shape)[...] = part
    return RawBatch(
        index=torch.tensor([seed, 7, 9]),
        waveform=memory.waveform.bytes().view(torch.int16).view(3, -1),
        frames=memory.frames.bytes(),
        frame_sizes=[(1, 2)],
        labels=torch.tensor([[0.0, 1.0]] * 3),
        skips=[Skip(3, "a.mp4", "empty file", "")],
        is_short=True,
    )


def assert_holds(batch: RawBatch, seed: int) -> None:
    assert batch.waveform is not None and batch.frames is not None and batch.labels is not None
    assert (
        batch.waveform.flatten().tolist() == np.concatenate([part.ravel() for part in parts(seed, np.int16)]).tolist()
    )
    assert batch.frames.tolist() == np.concatenate([part.ravel() for part in parts(seed + 100, np.uint8)]).tolist()
    assert batch.index.tolist() == [seed, 7, 9] and batch.labels.tolist() == [[0.0, 1.0]] * 3
    assert batch.num_samples is None and batch.frame_sizes == [(1, 2)] and batch.is_short
    assert batch.skips == [Skip(3, "a.mp4", "empty file", "")]


def send(batch: RawBatch) -> RawBatch:
    """As through a worker's queue."""
    received = pickle.loads(ForkingPickler.dumps(Parcel(batch)))
    assert isinstance(received, RawBatch)
    return received


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("expected", [0, 1, len(SHAPES), 100])
def test_parts_of_any_size_come_out_end_to_end(shared: bool, expected: int) -> None:
    pools = Pools(shared=shared)
    for seed in range(6):
        assert_holds(fill(pools.begin(expected), seed), seed)
    assert pools.begin(3).frames.bytes().tolist() == [] and pools.begin(3).shared == shared


@pytest.mark.parametrize("shared", [False, True])
def test_what_was_cut_is_not_there(shared: bool) -> None:
    memory = Pools(shared=shared).begin(1)
    memory.frames.append(4)[...] = 1
    ends = memory.ends
    memory.frames.append(5000)[...] = 2  # into larger memory
    memory.waveform.append(3, dtype=np.int16)[...] = 3
    memory.cut(ends)
    memory.frames.append(2)[...] = 4
    assert memory.frames.bytes().tolist() == [1, 1, 1, 1, 4, 4] and len(memory.waveform.bytes()) == 0


def test_batches_without_shared_memory_keep_their_own() -> None:
    pools = Pools(shared=False)
    batches = [fill(pools.begin(5), seed) for seed in range(8)]
    for seed, batch in enumerate(batches):
        assert_holds(batch, seed)


def test_a_batch_arrives_whole_and_may_be_kept() -> None:
    pools = Pools(shared=True)
    kept = [send(fill(pools.begin(len(SHAPES)), seed)) for seed in range(10)]
    for seed, batch in enumerate(kept):
        assert_holds(batch, seed)
    del kept[2:5]
    gc.collect()
    kept += [send(fill(pools.begin(len(SHAPES)), seed)) for seed in (20, 21, 22, 23)]
    for seed, batch in zip([0, 1, 5, 6, 7, 8, 9, 20, 21, 22, 23], kept, strict=True):
        assert_holds(batch, seed)


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    pool = Pool(shared=True)

    def filled() -> tuple[Tensor, Tensor]:
        piece = pool.take(1000)
        piece[64:] = 1
        batch = send(RawBatch(index=torch.tensor([0]), frames=piece[64:]))
        assert batch.frames is not None
        return piece, batch.frames

    first, one = filled()
    second, two = filled()
    assert second is not first
    row = one[10:20]  # a part of it is enough to keep it
    del one
    assert filled()[0] is not first
    assert row.tolist() == [1] * 10
    del row
    assert filled()[0] is first and two.tolist() == [1] * 936


def test_a_process_keeps_little_more_than_what_is_under_way() -> None:
    pool = Pool(shared=True)
    taken = [pool.take(100) for _ in range(9)]
    assert len({id(piece) for piece in taken}) == 9 and all(piece.is_shared() for piece in taken)
    for piece in taken:
        piece[0] = 0
    again = [pool.take(100) for _ in range(9)]
    assert len({id(piece) for piece in taken} & {id(piece) for piece in again}) == 4


def test_a_larger_piece_takes_the_place_of_a_free_one() -> None:
    pool = Pool(shared=True)
    growing = Growing(pool, 1)
    growing.append(10)
    growing.append(10_000)
    assert len(pool._kept) <= 2 and max(map(len, pool._kept)) >= 10_010
    assert sum(int(piece[0]) for piece in pool._kept) == 1, "the small one is given back"


def test_pieces_are_little_larger_than_the_largest_batch() -> None:
    """Clips of random sizes, as random crops are."""
    random, pools, largest = np.random.default_rng(0), Pools(shared=True), 0
    for _ in range(500):
        memory = pools.begin(16)
        for size in random.integers(100, 1000, 16):
            memory.frames.append(int(size))
        largest = max(largest, memory.frames.end)
        del memory
        for piece in pools._frames._kept:
            piece[0] = 0
    sizes = [len(piece) for piece in pools._frames._kept]
    assert largest <= max(sizes) < 1.25 * largest and len(sizes) <= 2


def test_a_stream_that_is_not_wanted_takes_no_memory() -> None:
    pools = Pools(shared=True)
    for _ in range(9):
        memory = pools.begin(2)
        memory.waveform.append(100, dtype=np.int16)[...] = 1
        batch = send(RawBatch(index=torch.tensor([0]), waveform=memory.waveform.bytes().view(torch.int16)[None]))
        assert batch.waveform is not None and batch.waveform.tolist() == [[1] * 100]
        del batch
    assert not pools._frames._kept and len(pools._waveform._kept) == 1


def test_a_batch_may_end_in_another_mode_than_it_began_in(capsys: pytest.CaptureFixture[str]) -> None:
    pools = Pools(shared=True)
    for _ in range(9):
        with torch.inference_mode():
            batch = send(fill(pools.begin(7), 1))
        assert_holds(batch, 1)
        del batch
    assert len(pools._frames._kept) <= 2 and capsys.readouterr().err == ""


def test_without_room_for_shared_memory_batches_arrive_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    pools = Pools(shared=True)
    kept = [send(fill(pools.begin(len(SHAPES)), seed)) for seed in range(3)]
    for seed, batch in enumerate(kept):
        assert_holds(batch, seed)
    assert caplog.text.count("shared memory is full") == 1, "once a process"


def test_only_the_process_that_received_a_batch_gives_it_back() -> None:
    mark = np.ones(1, np.uint8)
    _release(mark, owner=-1)
    assert mark[0] == 1
    _release(mark, owner=os.getpid())
    assert mark[0] == 0
