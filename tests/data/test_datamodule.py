"""The data module, with a trainer and without."""

from __future__ import annotations

import csv
import errno
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from media import tone, write_clip, write_media
from torch import Tensor

from diffmavil.data import (
    Clip,
    ClipDataModule,
    ClipSource,
    Esc50Source,
    FolderSource,
    ManifestSource,
    MediaError,
    dataset,
)
from diffmavil.data.media import Media
from diffmavil.types import Batch, RawBatch

SMALL: dict[str, Any] = {
    "batch_size": 4,
    "num_workers": 0,
    "clip_s": 0.64,
    "num_mel_bins": 32,
    "num_frames": 2,
    "fps": 5.0,
    "image_size": 32,
}


class ListSource(ClipSource):
    """Clips from a list: what a person writes who has their own data."""

    def __init__(self, clips: list[Clip]) -> None:
        self._clips = clips

    def clips(self) -> list[Clip]:
        return self._clips


class Reader(L.LightningModule):
    """Keeps what it is given; fits one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.train_batches: list[tuple[int, list[int]]] = []
        self.others: dict[str, list[int]] = {"val": [], "test": [], "predict": []}
        self.batches: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.train_batches.append((self.current_epoch, batch.index.tolist()))
        self.batches.append(batch)
        parts = [x.mean() for x in (batch.audio, batch.video) if x is not None]
        return self.weight * torch.stack(parts).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.others["val"] += batch.index.tolist()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.others["test"] += batch.index.tolist()

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.others["predict"] += batch.index.tolist()
        return batch.index

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, **kwargs: Any) -> L.Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "reload_dataloaders_every_n_epochs": 1,
        "default_root_dir": folder,
    }
    return L.Trainer(**options | kwargs)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Sixteen clips to train on, in two classes, and six to test on."""
    folder = tmp_path_factory.mktemp("clips")
    return [
        Clip(
            str(write_clip(folder / f"{k}.mp4", hz=200.0 + 50 * k)),
            split="train" if k < 16 else "test",
            labels=("low" if k % 2 else "high",),
        )
        for k in range(22)
    ]


@pytest.fixture(scope="module")
def broken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty good files and five that are not, one for each reason."""
    folder = tmp_path_factory.mktemp("broken")
    for k in range(20):
        write_clip(folder / f"good_{k:02}.mp4", hz=200.0 + 50 * k)
    whole = (folder / "good_00.mp4").read_bytes()
    (folder / "bad_truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / os.fsdecode(b"bad_empty\xff.mp4")).touch()  # no UTF-8
    (folder / "bad_text.mp4").write_text("This is no video.\n" * 50)
    write_media(folder / "bad_no_audio.mp4", frames=[torch.zeros(48, 64, 3, dtype=torch.uint8).numpy()] * 10)
    write_media(folder / "bad_no_video.mp4", sound=tone(1.0))
    return folder


def test_batches_without_a_trainer(clips: list[Clip]) -> None:
    data = ClipDataModule(source=ListSource(clips), **SMALL)
    data.setup()
    assert data.classes == ["high", "low"] and data.clips.class_ids(0) == (0,) and data.clips.class_ids(1) == (1,)
    assert {split: len(indices) for split, indices in data.split_indices.items()} == {
        "train": 16,
        "val": 0,
        "test": 6,
    }
    raws = list(data.train_dataloader())
    assert len(raws) == 4 and all(isinstance(raw, RawBatch) for raw in raws)
    batch = data.prepare(raws[0], "cpu")
    assert batch.audio is not None and batch.audio.shape == (4, 1, 64, 32)
    assert batch.video is not None and batch.video.shape == (4, 3, 2, 32, 32)
    assert batch.audio_frames is None and batch.video_frames is None  # nothing is padded
    assert batch.labels is not None
    assert batch.labels.tolist() == [data.clips.class_ids(index)[0] for index in batch.index.tolist()]
    assert [raw.index.tolist() for raw in data.test_dataloader()] == [[16, 17, 18, 19], [20, 21]]
    assert [raw.index.tolist() for raw in data.eval_dataloader([5, 3, 9])] == [[5, 3, 9]]
    assert sum(len(raw.index) for raw in data.predict_dataloader()) == 22
    assert data.val_dataloader() == []


def test_padding_is_known(clips: list[Clip]) -> None:
    mixed = [Clip(clips[0].path), Clip(clips[1].path, 0.2, 0.5)]
    data = ClipDataModule(source=ListSource(mixed), **SMALL)
    data.setup()
    batch = data.prepare(next(iter(data.eval_dataloader([0, 1]))), "cpu")
    assert batch.audio_frames is not None and batch.audio_frames.tolist() == [64, 28]
    assert batch.video_frames is None  # 0.3 s of pictures at 5 a second: both are there
    batch = data.prepare(next(iter(data.eval_dataloader([0]))), "cpu")
    assert batch.audio_frames is None


@pytest.mark.parametrize("epoch", [0, 2])
def test_workers_change_nothing(clips: list[Clip], epoch: int) -> None:
    batches = []
    for num_workers in (0, 2):
        data = ClipDataModule(source=ListSource(clips), **SMALL | {"num_workers": num_workers})
        data.setup()
        loader = data.train_dataloader()
        assert loader.batch_sampler is not None
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches.append(list(loader))
    for one, two in zip(*batches, strict=True):
        assert torch.equal(one.index, two.index) and torch.equal(one.waveform, two.waveform)
        assert torch.equal(one.frames, two.frames)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_use_their_shared_memory_again(clips: list[Clip]) -> None:
    data = ClipDataModule(source=ListSource(clips), **SMALL | {"batch_size": 2, "num_workers": 2})
    data.setup()
    files = set()
    for batch in data.eval_dataloader([k % len(clips) for k in range(60)]):
        for tensor in (batch.waveform, batch.frames):
            (place,) = (
                line.split()
                for line in Path("/proc/self/maps").read_text().splitlines()
                if (span := [int(end, 16) for end in line.split()[0].split("-")])[0] <= tensor.data_ptr() < span[1]
            )
            assert place[5].startswith("/dev/shm/torch_"), place
            files.add(place[4])
    assert len(files) <= 16, "of 60: four a worker and stream"


@pytest.mark.slow
def test_batches_stay_as_they_are_while_workers_go_on(clips: list[Clip]) -> None:
    """Workers use memory again; not that of a batch which is still looked at, be it slowly or only in part."""
    settings = SMALL | {"batch_size": 2, "num_workers": 2}
    alone, helped = (ClipDataModule(source=ListSource(clips), **settings | {"num_workers": n}) for n in (0, 2))
    for data in (alone, helped):
        data.setup()
    order = [k % len(clips) for k in range(60)]
    kept: list[tuple[Tensor, Tensor]] = []
    for k, (one, two) in enumerate(zip(alone.eval_dataloader(order), helped.eval_dataloader(order), strict=True)):
        assert torch.equal(one.waveform, two.waveform) and torch.equal(one.frames, two.frames)
        if k % 3 == 0:
            kept.append((one.frames[5:900].clone(), two.frames[5:900]))
        if k % 7 == 0:
            time.sleep(0.05)  # workers read ahead
            assert torch.equal(one.waveform, two.waveform) and torch.equal(one.frames, two.frames)
    assert len(kept) == 10 and all(torch.equal(mine, theirs) for mine, theirs in kept)


def test_fit_reads_another_order_in_each_epoch_and_tests_every_clip(clips: list[Clip], tmp_path: Path) -> None:
    data = ClipDataModule(source=ListSource(clips), val_fraction=0.25, **SMALL)
    model = Reader()
    trainer(tmp_path, max_epochs=3).fit(model, datamodule=data)
    assert len(data.split_indices["val"]) == 4
    assert [epoch for epoch, _ in model.train_batches] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    epochs = [sum((ids for e, ids in model.train_batches if e == epoch), []) for epoch in range(3)]
    assert all(sorted(epoch) == sorted(data.split_indices["train"].tolist()) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert model.others["val"] == data.split_indices["val"].tolist() * 3
    assert all(isinstance(batch, Batch) for batch in model.batches)
    trainer(tmp_path).test(model, datamodule=data, verbose=False)
    trainer(tmp_path).predict(model, datamodule=data)
    trainer(tmp_path).validate(model, datamodule=data, verbose=False)
    assert model.others["test"] == list(range(16, 22)) and model.others["predict"] == list(range(22))
    assert not (tmp_path / "skipped.csv").exists()


def test_batch_size_may_change_between_epochs(clips: list[Clip], tmp_path: Path) -> None:
    data = ClipDataModule(source=ListSource(clips), **SMALL)
    data.batch_size_of_epoch = lambda epoch: (2, 5, 8)[epoch]
    model = Reader()
    trainer(tmp_path, max_epochs=3).fit(model, datamodule=data)
    sizes = [[len(ids) for e, ids in model.train_batches if e == epoch] for epoch in range(3)]
    assert sizes == [[2] * 8, [5] * 3, [8] * 2]
    with pytest.raises(ValueError, match="reload_dataloaders_every_n_epochs must be 1, got 0"):
        trainer(tmp_path, reload_dataloaders_every_n_epochs=0).fit(Reader(), datamodule=data)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_every_command_says_what_it_skipped_and_where_that_is_listed(
    clips: list[Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    (tmp_path / "empty.mp4").touch()
    splits = [Clip(clip.path, split=split) for split in ("val", "test") for clip in clips[:2]]
    source = ListSource([*splits, *(Clip(str(tmp_path / "empty.mp4"), split=split) for split in ("val", "test"))])
    getattr(trainer(tmp_path), command)(Reader(), datamodule=ClipDataModule(source=source, **SMALL))
    count = 2 if command == "predict" else 1
    said = f"skipped {count} of 6 clips: {count} empty file; listed in {tmp_path / 'skipped.csv'}"
    assert said in caplog.messages
    with (tmp_path / "skipped.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == [str(tmp_path / "empty.mp4")] * count


def test_broken_files_are_counted_and_listed(
    broken_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ClipDataModule(source=FolderSource(root=broken_folder), **SMALL)
    model = Reader()
    run = trainer(tmp_path, max_epochs=3)
    with caplog.at_level(logging.WARNING):
        run.fit(model, datamodule=data)
    assert [len(ids) for _, ids in model.train_batches] == [4] * 3 * 6
    bad = {index for index, clip in enumerate(data.clips) if "bad" in clip.path}
    assert set(data.skipped.by_index) == bad and not bad & {index for _, ids in model.train_batches for index in ids}
    summary = data.skipped.summary(len(data.clips))
    assert summary.startswith("skipped 5 of 25 clips: ") and summary in caplog.text
    for reason in ("empty file", "not a media file", "no audio track", "no video track", "cannot be decoded"):
        assert f"1 {reason}" in summary
    with (tmp_path / "skipped.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {data.clips[index].path for index in bad}
    assert {row["reason"] for row in rows} == {skip.reason for skip in data.skipped.by_index.values()}
    run.save_checkpoint(tmp_path / "done.ckpt")
    resumed = ClipDataModule(source=FolderSource(root=broken_folder), **SMALL)
    trainer(tmp_path, max_epochs=3).fit(Reader(), resumed, ckpt_path=tmp_path / "done.ckpt", weights_only=True)
    assert resumed.skipped.by_index == data.skipped.by_index


def test_a_disk_error_in_a_source_of_ones_own_leaves_the_clip_out(clips: list[Clip]) -> None:
    class BadSector(ListSource):
        def open(self, clip: Clip, *, timeout_s: float = 30.0) -> Media:
            if clip.path == clips[1].path:
                raise OSError(errno.EIO, "Input/output error")
            return super().open(clip, timeout_s=timeout_s)

    data = ClipDataModule(source=BadSector(clips), **SMALL)
    data.setup("fit")
    read = [index for raw in data.train_dataloader() for index in data.prepare(raw, "cpu").index.tolist()]
    assert len(read) == 16 and 1 not in read
    assert {index: skip.reason for index, skip in data.skipped.by_index.items()} == {1: "cannot be opened"}


@pytest.mark.parametrize(("on_error", "tried"), [("skip", 3), ("raise", 1)])
def test_storage_that_goes_away_ends_a_run(
    on_error: str, tried: int, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mount(ListSource):
        opened = 0

        def open(self, clip: Clip, *, timeout_s: float = 30.0) -> Media:
            self.opened += 1
            if self.opened > 21:  # after one clip at the start and five batches of four
                raise MediaError(clip.path, "cannot be opened", "Stale file handle")
            return super().open(clip, timeout_s=timeout_s)

    monkeypatch.setattr(dataset, "MOST_LOST", 3)
    source = Mount(clips)
    model = Reader()
    with pytest.raises(
        MediaError, match=r"cannot be opened \(Stale file handle(.*is the storage gone\?)?\)$"
    ) as caught:
        data = ClipDataModule(source=source, on_error=on_error, **SMALL)
        trainer(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(model, datamodule=data)
    assert ("is the storage gone" in str(caught.value)) == (on_error == "skip")
    assert len(model.train_batches) == 5 and source.opened == 21 + 4 * tried


def test_on_error_raise_stops_at_a_broken_file(broken_folder: Path, tmp_path: Path) -> None:
    data = ClipDataModule(source=FolderSource(root=broken_folder), on_error="raise", **SMALL)
    with pytest.raises(MediaError, match=r"bad_.+.mp4: ") as caught:
        trainer(tmp_path).fit(Reader(), datamodule=data)
    assert "\n" not in str(caught.value)


def test_one_modality(broken_folder: Path, tmp_path: Path) -> None:
    data = ClipDataModule(source=FolderSource(root=broken_folder), modalities="audio", **SMALL)
    model = Reader()
    trainer(tmp_path, max_epochs=3).fit(model, datamodule=data)
    assert all(batch.video is None and batch.audio is not None for batch in model.batches)
    reasons = {Path(skip.path).stem for skip in data.skipped.by_index.values()}
    assert reasons == {"bad_truncated", "bad_empty\udcff", "bad_text", "bad_no_audio"}
    data = ClipDataModule(source=FolderSource(root=broken_folder), modalities="video", **SMALL)
    data.setup("fit")
    batch = data.prepare(next(iter(data.train_dataloader())), "cpu")
    assert batch.audio is None and batch.video is not None


def test_nothing_to_read_is_said_in_one_line(tmp_path: Path, clips: list[Clip]) -> None:
    for k in range(3):
        write_media(tmp_path / f"{k}.wav", sound=tone(1.0), audio_codec="pcm_s16le")
    data = ClipDataModule(source=FolderSource(root=tmp_path), **SMALL)
    with pytest.raises(
        ValueError, match="none of the 3 clips can be read as audio_video; the first: .*0.wav: no vi"
    ) as error:
        data.setup("fit")
    assert str(error.value).endswith("; to read audio alone, set data.modalities to audio")
    with pytest.raises(ValueError, match="test needs clips of split test, got 3 clips but none of it"):
        ClipDataModule(source=FolderSource(root=tmp_path), modalities="audio", **SMALL).setup("test")
    data = ClipDataModule(source=ListSource(clips), **SMALL | {"batch_size": 17})
    data.setup()
    with pytest.raises(ValueError, match="batch_size must be at most 16 with 16 training clips, got 17"):
        data.train_dataloader()


def test_several_labels(tmp_path: Path) -> None:
    for name in "abc":
        write_clip(tmp_path / f"{name}.mp4")
    (tmp_path / "m.csv").write_text("path,what\na.mp4,dog;cat\nb.mp4,\nc.mp4,owl\n")
    source = ManifestSource(path=tmp_path / "m.csv", label_column="what")
    data = ClipDataModule(source=source, multi_label=True, **SMALL)
    data.setup()
    batch = next(iter(data.eval_dataloader([0, 1, 2])))
    assert data.classes == ["cat", "dog", "owl"] and batch.labels.tolist() == [
        [1, 1, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]
    with pytest.raises(ValueError, match="a clip must have one label unless multi_label is true, got 2"):
        ClipDataModule(source=source, **SMALL).setup()


def test_balanced_draws_make_rare_classes_as_frequent_as_others(clips: list[Clip]) -> None:
    rare = [clip for clip in clips if clip.labels == ("high",)][:1] + [c for c in clips if c.labels == ("low",)]
    data = ClipDataModule(
        source=ListSource(rare), balanced=True, clips_per_epoch=400, batch_size=4, modalities="audio", clip_s=0.5
    )
    data.setup("fit")
    loader = data.train_dataloader()
    drawn = [index for requests in loader.batch_sampler for _, index, _ in requests]  # type: ignore[union-attr]
    assert len(drawn) == 400
    share = sum(data.clips[index].labels == ("high",) for index in drawn) / 400
    assert share == pytest.approx(0.5, abs=0.1)


def test_an_epoch_of_a_given_size_and_by_blocks(clips: list[Clip]) -> None:
    in_shards = [replace(clip, block=k // 5) for k, clip in enumerate(clips)]
    for setting in ({}, {"shuffle_shards": 2}):
        data = ClipDataModule(
            source=ListSource(in_shards), clips_per_epoch=8, batch_size=2, modalities="audio", clip_s=0.5, **setting
        )
        data.setup("fit")
        drawn = [index for requests in data.train_dataloader().batch_sampler for _, index, _ in requests]  # type: ignore[union-attr]
        assert len(drawn) == len(set(drawn)) == 8
    data = ClipDataModule(source=ListSource(clips), shuffle_shards=2, batch_size=2, modalities="audio", clip_s=0.5)
    data.setup("fit")
    with pytest.raises(ValueError, match="shuffle_shards must be left out where clips lie in no shards, got 2"):
        data.train_dataloader()


def test_few_labels_leave_the_test_split_alone(clips: list[Clip]) -> None:
    data = ClipDataModule(source=ListSource(clips), labels_per_class=3, **SMALL)
    data.setup()
    train = [data.clips[index].labels[0] for index in data.split_indices["train"]]
    assert sorted(train) == ["high"] * 3 + ["low"] * 3 and len(data.split_indices["test"]) == 6


@pytest.mark.parametrize("setting", [{"labels_per_class": 1}, {"val_fraction": 0.5}])
def test_no_clip_is_left_out_where_every_fold_is_tested(clips: list[Clip], setting: dict[str, Any]) -> None:
    folded = [replace(clip, split="train", fold=k // 2 % 2 + 1) for k, clip in enumerate(clips)]
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be left out where all folds are tested"):
        ClipDataModule(source=ListSource(folded), **setting, **SMALL).setup()
    folded = [replace(clip, split="test" if clip.fold == 1 else "train") for clip in folded]
    ClipDataModule(source=ListSource(folded), **setting, **SMALL).setup()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"clip_s": 0.0}, "clip_s must be above 0, got 0.0"),
        (
            {"clip_s": 0.001, "modalities": "audio"},
            "clip_s must be at least a frame shift of 10.0 ms, got 0.001",
        ),
        ({"fps": float("nan")}, "fps must be above 0, got nan"),
        ({"crop_min_scale": 1.2}, r"crop_min_scale must be in \(0, 1\], got 1.2"),
        ({"val_fraction": 1.0}, r"val_fraction must be in \[0, 1\), got 1.0"),
        ({"labels_per_class": 0}, "labels_per_class must be at least 1, got 0"),
        ({"num_frames": 16}, "num_frames / fps must be at most clip_s = 0.64 s, got 3.2 s"),
    ],
)
def test_numbers_out_of_range(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipDataModule(source=ListSource([]), **SMALL | setting)


def test_command_line_finds_sources_by_their_bare_names(clips: list[Clip]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ClipDataModule, "data")
    folder = Path(clips[0].path).parent
    config = parser.parse_args(
        [
            "--data.source",
            "FolderSource",
            f"--data.source.root={folder}",
            "--data.clip_s=4.5",
            "--data.batch_size=3",
        ]
    )
    data = parser.instantiate(config).data
    assert isinstance(data.source, FolderSource) and data.audio_transform.clip_s == 4.5 and data.batch_size == 3
    with pytest.raises(ArgumentError, match="roots"):
        parser.parse_args(["--data.source", "FolderSource", "--data.source.roots=x"])


def test_real_clips(shared_data: Path) -> None:
    words = ManifestSource(path=shared_data / "grid" / "words.csv", label_column="word")
    data = ClipDataModule(source=words, **SMALL | {"num_workers": 2, "fps": 12.5, "num_frames": 8})
    data.setup()
    lengths = [(clip.end_s or 0.0) - (clip.start_s or 0.0) for clip in data.clips]
    order = sorted(range(len(lengths)), key=lambda k: lengths[k])
    for raw in data.eval_dataloader(order[:4] + order[-4:]):
        batch = data.prepare(raw, "cpu")
        assert batch.audio_frames is None or int(batch.audio_frames.min()) >= 1
        assert batch.audio is not None and bool(batch.audio.isfinite().all())
    assert len(data.skipped) == 0
    esc = ClipDataModule(
        source=Esc50Source(root=shared_data / "esc10", fold=1),
        modalities="audio",
        **SMALL | {"clip_s": 5.12, "batch_size": 32},
    )
    esc.setup("test")
    batch = esc.prepare(next(iter(esc.test_dataloader())), "cpu")
    assert batch.audio is not None and batch.audio.shape == (32, 1, 512, 32) and len(esc.classes) == 10
    assert batch.audio_frames is not None and 498 in batch.audio_frames.tolist()
