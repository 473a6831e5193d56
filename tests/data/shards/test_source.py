"""Clips of shards against the files that they were made from."""

from __future__ import annotations

import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media import counter_of, decode_audio, frames_of, moving_frames, tone, write_clip, write_media
from shards import write_shards

from diffmavil.data import Clip, ClipDataModule, FolderSource, ManifestSource, MediaError, ShardSource
from diffmavil.data.clips import SPLITS
from diffmavil.data.shards import Stored, index

FPS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of 2 s at 10 pictures a second, of 44.1 kHz stereo and 16 kHz mono sound."""
    root = tmp_path_factory.mktemp("films")
    for k in range(5):
        stereo = np.concatenate([tone(2.0, 300 + 100 * k, 44100), tone(2.0, 500, 44100, 0.2)])
        sound, rate = (stereo, 44100) if k % 2 else (tone(2.0, 300 + 100 * k), 16000)
        split = ("train", "val", "test")[k % 3]
        name = f"{split}/clip {k}.v1.mkv"
        write_media(root / name, frames=moving_frames(20, k), fps=FPS, sound=sound, rate=rate, audio_codec="flac")
    return root


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stored = Stored(fps=float(FPS), short_side=256)
    return write_shards(FolderSource(root=folder), tmp_path_factory.mktemp("shards"), stored=stored, clips_per_shard=2)


def test_the_same_clips_spans_pictures_and_sound_as_from_the_folder(folder: Path, shards: Path) -> None:
    files, source = FolderSource(root=folder), ShardSource(root=shards)
    clips = list(source.clips())
    assert [(c.path, c.split, c.labels, c.fold) for c in clips] == [
        (c.path, c.split, c.labels, c.fold) for c in files.clips()
    ]
    psnr = []
    for file_clip, clip in zip(files.clips(), clips, strict=True):
        whole = decode_audio(file_clip.path, 0.0, 2.0, 16000)
        with files.open(file_clip) as file, source.open(clip) as shard:
            assert shard.info.audio_s == pytest.approx(file.info.audio_s)
            assert shard.info.video_s == pytest.approx(file.info.video_s)
            for start_s in (0.0, 0.37, 1.0, 1.234):
                sound = shard.audio(start_s, 0.5, 16000)
                begin = round(start_s * 16000)
                assert np.array_equal(sound, whole[begin : begin + 8000])
                assert np.abs(sound.astype(int) - file.audio(start_s, 0.5, 16000)).max() <= 1
                times_s = [start_s + k / 7 for k in range(5)]
                wanted, got = frames_of(file, times_s, 256), frames_of(shard, times_s, 256)
                assert got.shape == wanted.shape == (5, 240, 320, 3)
                psnr.append(10 * np.log10(255**2 / np.mean((wanted.astype(float) - got) ** 2)))
    print(f"PSNR of the stored pictures: least {min(psnr):.1f} dB, mean {np.mean(psnr):.1f} dB")
    assert min(psnr) > 38


def test_any_fold_can_be_the_one_to_test_on(folder: Path, shards: Path, tmp_path: Path) -> None:
    class Folds(FolderSource):
        def clips(self) -> list[Clip]:
            return [replace(clip, split="train", fold=k % 2 + 1) for k, clip in enumerate(super().clips())]

    root = write_shards(Folds(root=folder), tmp_path, stored=Stored(fps=1.0, short_side=32), clips_per_shard=2)
    assert [clip.split for clip in ShardSource(root=root).clips()] == ["train"] * 5
    assert [clip.split for clip in ShardSource(root=root, fold=2).clips()] == ["train", "test"] * 2 + ["train"]
    with pytest.raises(ValueError, match="fold must be one of 1, 2, got 3"):
        ShardSource(root=root, fold=3).clips()
    with pytest.raises(ValueError, match="fold must be one of none, got 1"):
        ShardSource(root=shards, fold=1).clips()


def test_windows_at_the_ends_of_a_clip(folder: Path, shards: Path) -> None:
    source = ShardSource(root=shards)
    with source.open(next(iter(source.clips()))) as media:
        assert len(media.audio(1.5, 2.0, 16000)) == 8000
        assert len(media.audio(5.0, 1.0, 16000)) == 0
        late = frames_of(media, [-1.0, 0.0, 1.9, 7.0])
        assert np.array_equal(late[0], late[1]) and np.array_equal(late[2], late[3])
        assert not np.array_equal(late[1], late[2])


def test_the_stored_picture_is_the_last_that_began(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a.mp4", seconds=3.0)
    source = ShardSource(root=write_shards(FolderSource(root=tmp_path / "in"), tmp_path / "out"))
    with source.open(next(iter(source.clips()))) as media:
        times_s = [0.0, 0.2, 0.2495, 0.26, 0.749, 0.75, 0.99, 1.0, 2.99]
        # stored at 0, 0.25, 0.5, 0.75 s, ...: pictures 0, 2, 5, 7, ... of 10 a second
        assert [counter_of(picture) for picture in frames_of(media, times_s)] == [0, 0, 2, 2, 7, 7, 7, 10, 27]


def test_segments_keep_their_times_and_labels(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", seconds=3.0)
    (tmp_path / "m.csv").write_text("path,start_s,end_s,what,split\na.mp4,1,2.5,dog;cat,test\na.mp4,0.5,,cat,train\n")
    files = ManifestSource(path=tmp_path / "m.csv", label_column="what")
    source = ShardSource(root=write_shards(files, tmp_path / "out", stored=Stored(fps=10.0)))
    clips = list(source.clips())
    assert [replace(clip, row=None, block=None) for clip in clips] == list(files.clips())
    assert source.class_names() == ["cat", "dog"]
    whole = decode_audio(tmp_path / "a.mp4", 0.0, 3.0, 16000).astype(int)
    with source.open(clips[0]) as media:
        assert media.info.duration_s == pytest.approx(1.5) and media.info.video_s == pytest.approx((1.0, 2.5))
        assert [counter_of(p) for p in frames_of(media, [1.0, 1.7, 2.4])] == [10, 17, 24]
        assert np.abs(media.audio(1.0, 9.0, 16000) - whole[16000:40000]).max() <= 1
        assert np.array_equal(media.audio(0.0, 9.0, 16000), media.audio(1.0, 9.0, 16000)), "there is none before"
    with source.open(clips[1]) as media:
        assert media.info.duration_s == pytest.approx(2.5, abs=0.05)
        assert [counter_of(p) for p in frames_of(media, [0.5, 2.5])] == [5, 25]


def test_windows_of_segments_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    segments = [(0.333, 1.25), (None, None), (0.1, None), (1 / 3, 1.9999), (None, 1.7)]

    class Segments(FolderSource):
        def clips(self) -> list[Clip]:
            return [replace(c, start_s=a, end_s=b, split="train") for c in super().clips() for a, b in segments]

    files = Segments(root=folder)
    shards = ShardSource(root=write_shards(files, tmp_path, stored=Stored(fps=float(FPS), short_side=64)))
    sizes = {"clip_s": 0.64, "num_frames": 2, "fps": 4.0, "image_size": 32}
    batches = []
    for source in (files, shards):
        data = ClipDataModule(source=source, batch_size=25, eval_windows=2, num_workers=0, **sizes)
        data.setup("fit")
        batches.append([*data.train_dataloader(), *data.eval_dataloader(range(25))])
    assert len(batches[0]) == 2
    for theirs, ours in zip(*batches, strict=True):
        assert not ours.skips and torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.num_samples, theirs.num_samples) and torch.equal(ours.num_frames, theirs.num_frames)
        assert (ours.waveform.int() - theirs.waveform.int()).abs().max() <= 1


def test_a_long_list_is_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.mp4", "ü.mp4", "longer.mp4"]
    for name in names:
        write_clip(tmp_path / name, seconds=0.5)
    labels = ["b;a", "", "c", "", "", "a;b;c", "b"]
    rows = [(names[k % 3], k / 20, k / 20 + 0.2, what, SPLITS[k % 2]) for k, what in enumerate(labels)]
    table = [("path", "start_s", "end_s", "what", "split"), *rows]
    (tmp_path / "m.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in table))
    files = ManifestSource(path=tmp_path / "m.csv", label_column="what")
    root = write_shards(files, tmp_path / "out", modalities="audio")
    for rows_at_once in (1, 2, 3, 7, 8):
        monkeypatch.setattr(index, "_ROWS_AT_ONCE", rows_at_once)
        source = ShardSource(root=root)
        clips = list(source.clips())
        assert [(Path(c.path).name, c.split, c.labels, c.row, c.block) for c in clips] == [
            (name, split, tuple(what.split(";")) if what else (), k, k // 3)
            for k, (name, _, _, what, split) in enumerate(rows)
        ]
        for k, clip in enumerate(clips):
            with source.open(clip) as media:
                assert f"/{k:08d}_" in media.path


def test_larger_pictures_are_shrunk_on_request(folder: Path, shards: Path) -> None:
    source = ShardSource(root=shards)
    with source.open(next(iter(source.clips()))) as media:
        small, large = frames_of(media, [0.5], 60), frames_of(media, [0.5])
    assert small.shape == (1, 60, 80, 3)
    assert np.abs(large.reshape(1, 60, 4, 80, 4, 3).mean((2, 4)) - small).mean() < 3


def test_streams_and_rates_that_are_not_stored(folder: Path, shards: Path, tmp_path: Path) -> None:
    sound = ShardSource(root=write_shards(FolderSource(root=folder), tmp_path / "a", modalities="audio"))
    with sound.open(next(iter(sound.clips()))) as media:
        assert media.info.video_s is None
        with pytest.raises(MediaError, match="no video track"):
            frames_of(media, [0.0])
    pictures = ShardSource(root=write_shards(FolderSource(root=folder), tmp_path / "v", modalities="video"))
    with pictures.open(next(iter(pictures.clips()))) as media:
        assert media.info.audio_s is None and frames_of(media, [0.0]).shape == (1, 240, 320, 3)
        with pytest.raises(MediaError, match="no audio track"):
            media.audio(0.0, 1.0, 16000)
    source = ShardSource(root=shards)
    with source.open(next(iter(source.clips()))) as media:
        with pytest.raises(ValueError, match="sample_rate_hz must be that of the shards, 16000, got 8000"):
            media.audio(0.0, 1.0, 8000)
    data = ClipDataModule(source=source, num_frames=2, fps=2.0 * FPS, clip_s=1.0)
    with pytest.raises(ValueError, match=f"fps must be at most that of the prepared pictures, {FPS}, got {2 * FPS}$"):
        data.setup("fit")


def test_a_shard_cut_short_loses_what_is_missing_and_nothing_else(folder: Path, shards: Path, tmp_path: Path) -> None:
    source = ShardSource(root=shards)
    clips = list(source.clips())
    tar = shards / "shard-000001.tar"
    whole = tar.read_bytes()
    try:
        tar.write_bytes(whole[: len(whole) - 5000])
        for clip in clips:
            with source.open(clip) as media:
                frames_of(media, [0.0])
                media.audio(0.0, 1.0, 16000)
                if clip.row == 3:
                    with pytest.raises(MediaError, match=r"shard-000001.tar/00000003_clip_.*shard cut short"):
                        frames_of(media, [1.9])
                else:
                    frames_of(media, [1.9])
        tar.write_bytes(bytes(b ^ (i == len(whole) - 9000) for i, b in enumerate(whole)))
        with source.open(clips[3]) as media, pytest.raises(MediaError, match="picture 19 is damaged"):
            frames_of(media, [0.0, 1.9])
        tar.unlink()
        with ShardSource(root=shards).open(clips[3]) as media, pytest.raises(MediaError, match="missing file"):
            media.audio(0.0, 1.0, 16000)
    finally:
        tar.write_bytes(whole)


@pytest.mark.parametrize(("at", "mask"), [(25, 1), (3000, 1)], ids=["its length", "a sample"])
def test_a_flipped_bit_in_the_sound(folder: Path, shards: Path, at: int, mask: int) -> None:
    tar = shards / "shard-000000.tar"
    whole = tar.read_bytes()
    try:
        at += whole.index(b"fLaC")
        tar.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
        first, second, *_ = ShardSource(root=shards).clips()
        source = ShardSource(root=shards)
        with source.open(first) as media, pytest.raises(MediaError, match="cannot be decoded .the sound is damaged"):
            media.audio(0.0, 2.0, 16000)
        with source.open(second) as media:
            assert len(media.audio(0.0, 2.0, 16000)) == 32000
    finally:
        tar.write_bytes(whole)


def test_names_in_a_tar_file_mean_nothing(folder: Path, shards: Path, tmp_path: Path) -> None:
    inner = tmp_path / "in" / "shards"
    shutil.copytree(shards, inner)
    with tarfile.open(shards / "shard-000000.tar") as old, tarfile.open(inner / "shard-000000.tar", "w") as new:
        for k, info in enumerate(old.getmembers()):
            data = old.extractfile(info)
            info.name = f"../x{k}" if k % 2 else f"/{tmp_path.name}/x{k}"
            new.addfile(info, data)
    source, plain = ShardSource(root=inner), ShardSource(root=shards)
    before = sorted(tmp_path.rglob("*"))
    size = (shards / "shard-000000.tar").stat().st_size
    assert b"../x1" in (inner / "shard-000000.tar").read_bytes()[:size]
    for ours, theirs in zip(list(source.clips())[:2], plain.clips(), strict=False):
        with source.open(ours) as mine, plain.open(theirs) as other:
            assert np.array_equal(frames_of(mine, [0.0, 1.9]), frames_of(other, [0.0, 1.9]))
            assert np.array_equal(mine.audio(0.0, 2.0, 16000), other.audio(0.0, 2.0, 16000))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_source_travels_to_other_processes(shards: Path) -> None:
    source = ShardSource(root=shards)
    clips = list(source.clips())
    with source.open(clips[2]) as media:
        wanted = frames_of(media, [0.3])
    sent = pickle.dumps(source)
    assert len(sent) < 2000  # no arrays travel
    with pickle.loads(sent).open(clips[2]) as media:
        assert np.array_equal(frames_of(media, [0.3]), wanted)


def test_folders_that_are_no_shards(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(ValueError, match="root must be a folder that `diffmavil prepare` wrote, got .*nowhere"):
        ShardSource(root=tmp_path / "nowhere").clips()
    (tmp_path / "prepare.json").write_text("{}")
    with pytest.raises(ValueError, match="the same `diffmavil prepare` goes on"):
        ShardSource(root=tmp_path).clips()
    index = tmp_path / "index"
    index.mkdir()
    for path in (shards / "index").iterdir():
        (index / path.name).write_bytes(path.read_bytes())
    assert len(list(ShardSource(root=tmp_path).clips())) == 5
    (index / "clips.npy").write_bytes((shards / "index" / "frames.npy").read_bytes())
    with pytest.raises(ValueError, match="the index is damaged"):
        ShardSource(root=tmp_path).clips()
    whole = (shards / "index" / "clips.npy").read_bytes()
    for data in (whole[:-100], b"", bytes(len(whole))):
        (index / "clips.npy").write_bytes(data)
        with pytest.raises(ValueError, match="the index is damaged"):
            ShardSource(root=tmp_path).clips()
