"""``diffmavil bench data`` and ``bench scale``: that they measure what they say, on the smallest data."""

from __future__ import annotations

import json
import re
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from media import frames_of, moving_frames, tone, write_media
from shards import write_shards

from diffmavil import cli
from diffmavil.commands.bench import data as bench_data
from diffmavil.commands.bench import data_clips, scale
from diffmavil.commands.bench.data_bare import BareShards, BareVideo, LoadersShards, PyAVShards
from diffmavil.commands.bench.settings import DataSettings
from diffmavil.data import AudioSetSource, FolderSource, ShardSource
from diffmavil.data.decode import MediaFile
from diffmavil.data.shards import Stored

TIMES_S = [0.6 + k / 5 for k in range(6)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 2 s at 10 pictures a second, wide and tall, with 44.1 kHz stereo sound."""
    root = tmp_path_factory.mktemp("films")
    for k, (width, height) in enumerate([(160, 120), (120, 160)]):
        sound = np.concatenate([tone(2.0, 300 + 100 * k, 44100), tone(2.0, 500, 44100, 0.2)])
        write_media(root / f"{k}.mp4", frames=moving_frames(20, k, width, height), sound=sound, rate=44100)
    return root


@pytest.mark.parametrize("clip", [0, 1])
@pytest.mark.parametrize("times_s", [TIMES_S, [0.0, 0.05, 0.31, 1.64]], ids=["on the pictures", "between them"])
def test_the_limit_for_files_decodes_what_the_loader_decodes(films: Path, clip: int, times_s: list[float]) -> None:
    paths = [c.path for c in FolderSource(root=films).clips()]
    # a hair later: a picture that begins at an instant is shown then, whatever its clock rounds it to
    bare = BareVideo(paths=paths, times_s=[s + 1e-3 for s in times_s], short_side=60, sample_rate_hz=16000)
    sound, pictures = bare.decode(clip)
    with MediaFile(paths[clip]) as media:
        assert np.array_equal(pictures, frames_of(media, times_s, 60))
        heard = media.audio(0.0, 10.24, 16000)
    assert sound.shape[0] == 1 and abs(sound.shape[1] - len(heard)) <= 1 and len(heard) > 31000
    length = min(sound.shape[1], len(heard))
    assert np.abs(sound[0, :length].astype(int) - heard[:length]).max() <= 1


@pytest.mark.parametrize("kind", [LoadersShards, PyAVShards])
@pytest.mark.parametrize("fps", [4.0, 10.0])
def test_the_limits_for_shards_decode_what_the_loader_decodes(
    films: Path, tmp_path: Path, fps: float, kind: type[BareShards]
) -> None:
    root = write_shards(FolderSource(root=films), tmp_path, stored=Stored(fps=fps), clips_per_shard=1)
    bare, source = kind(root=root, times_s=TIMES_S, fps=fps), ShardSource(root=root)
    for k, clip in enumerate(source.clips()):
        sound, pictures = bare.decode(k)
        with source.open(clip) as media:
            assert np.array_equal(sound, media.audio(0.0, 10.24, 16000)) and len(sound) > 31000
            wanted = frames_of(media, TIMES_S)
        if kind is LoadersShards:
            assert np.array_equal(pictures, wanted)
        else:  # FFmpeg brings colours to full resolution in another way
            error = np.stack(pictures).astype(float) - wanted
            assert 10 * np.log10(255.0**2 / np.square(error).mean()) > 35


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Footage is small, and no processes are started for one's own work but those of loaders."""
    for name, value in (("WIDTH", 96), ("HEIGHT", 64), ("FPS", 10)):
        monkeypatch.setattr(data_clips, name, value)
    threads = SimpleNamespace(get_context=lambda kind: SimpleNamespace(Pool=ThreadPool))
    for module in (bench_data, scale):
        monkeypatch.setattr(module, "multiprocessing", threads)


def test_footage_is_h264_and_stereo_aac_and_the_same_for_a_seed(small: None, tmp_path: Path) -> None:
    made = []
    for number, seed in enumerate([0, 0, 1]):
        path = tmp_path / f"{number}.mp4"
        data_clips.make_footage(path, seed)
        with MediaFile(path) as media:
            made.append((frames_of(media, [k / 10 for k in range(100)]), media.audio(0.0, 10.0, 44100)))
            assert media.info.audio_s == pytest.approx((0.0, 10.0), abs=0.05)
            assert media.info.video_s == pytest.approx((0.0, 10.0))
    with av.open(str(path)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
        assert file.streams.audio[0].layout.name == "stereo" and file.streams.audio[0].rate == 44100
    pictures, sound = made[0]
    assert pictures.shape == (100, 64, 96, 3) and len(sound) == 441000
    assert pictures.std() > 10 and len({picture.tobytes() for picture in pictures}) > 30, "it moves"
    assert sound.astype(float).std() > 1000
    assert all(np.array_equal(a, b) for a, b in zip(made[0], made[1], strict=True))
    assert not np.array_equal(made[0][0], made[2][0]) and not np.array_equal(made[0][1], made[2][1])


def test_every_way_of_reading_has_its_row(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--clips 2 --workers 1 --rounds 2 --seconds 0.05 --batch_size 2 --image_size 64 --gpu_clips_per_s 100"
    out = tmp_path / "page" / "here.md"
    threads = torch.get_num_threads()
    assert cli.main(["bench", "data", *flags.split(), "--json", "--out", str(out)]) == 0
    assert torch.get_num_threads() <= threads
    result, page = json.loads(capsys.readouterr().out), out.read_text()
    names = [bench_data.FILES, bench_data.FILES_LOADER, bench_data.SHARDS, bench_data.SHARDS_OWN]
    names += [bench_data.SHARDS_LOADER, bench_data.SHARDS_CPU] + [bench_data.SHARDS_CUDA] * torch.cuda.is_available()
    assert [way["name"] for way in result["ways"]] == names
    assert result["settings"]["workers"] == 1 and result["command"] == f"diffmavil bench data {flags} --out {out}"
    assert 0 < result["clip"]["shards"] < 1 and 0 < result["clip"]["files"] < 1 and result["prepare_core_s"] > 0
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", page, re.MULTILINE)[1:])
    speeds = {}
    for way in result["ways"]:
        low, middle, high = (way[key] for key in ("min", "clips_per_s", "max"))
        assert 0 < low <= middle <= high and middle == pytest.approx((low + high) / 2), "the median of two"
        speeds[way["name"]] = middle
        cells = [f"{middle:.1f} ({low:.1f} to {high:.1f})", f"{1000 / middle:.1f}", f"{100 / middle:.0f}"]
        assert rows[way["name"]] == " | ".join(cells), "one worker: one core"
    assert len(rows) == len(names)
    ratio = speeds["shards, loader"] / speeds["files, loader"]
    assert f"Shards against files, by the loader: {ratio:.1f} times." in page
    shares = [speeds[f"{kind}, loader"] / speeds[f"{kind}, bare PyAV"] for kind in ("files", "shards")]
    assert "files {:.0%}, shards {:.0%}.".format(*shares) in page
    assert f"PyAV's): shards {speeds['shards, loader'] / speeds[bench_data.SHARDS_OWN]:.0%}." in page
    assert f"`{result['command']}` on " in page and "1 processes, 2 rounds in turns, batches of 2" in page


def test_a_clip_that_cannot_be_read_is_no_measurement(films: Path, tmp_path: Path) -> None:
    settings = DataSettings(clips=2, workers=1, batch_size=1)
    (tmp_path / "a.mp4").write_bytes((films / "0.mp4").read_bytes())
    (tmp_path / "b.mp4").write_text("no film")
    data = bench_data._data(settings, FolderSource(root=tmp_path))
    data.setup("fit")
    with pytest.raises(AssertionError, match="not a media file"):
        bench_data._read(data, 2)


@pytest.mark.parametrize(("seconds", "took_s", "count"), [(10.0, 0.5, 640), (0.1, 0.5, 32), (0.9, 0.5, 64)])
def test_what_is_timed_takes_about_as_long_as_wanted(
    seconds: float, took_s: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(bench_data, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    asked_for = []

    def way(clips: int) -> None:
        asked_for.append(clips)
        clock[0] += took_s

    assert bench_data._count(way, DataSettings(seconds=seconds, batch_size=16, workers=2)) == count
    assert asked_for == [32]


@pytest.fixture(scope="module")
def audioset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audioset")
    scale.make_audioset(root, 1000)
    return root


def test_the_made_audioset_is_one_to_its_source(audioset: Path) -> None:
    source = AudioSetSource(root=audioset, train=["unbalanced"])
    clips = list(source.clips())
    assert not source.missing and source.class_names() is not None
    assert len(clips) == len({clip.path for clip in clips}) == 1000
    assert {(clip.split, clip.start_s, clip.end_s) for clip in clips} == {("train", None, None)}
    links = Counter(Path(clip.path).resolve(strict=True) for clip in clips)
    assert sorted(links.values()) == [125] * 8 and all(Path(clip.path).is_symlink() for clip in clips)
    for path in links:
        with MediaFile(path) as media:
            assert frames_of(media, [0.5]).shape == (1, 32, 32, 3) and len(media.audio(0.0, 1.0, 16000)) == 16000
    labels = Counter(label for clip in clips for label in clip.labels)
    assert {len(clip.labels) for clip in clips} == {1, 2, 3} and len(labels) > 100
    assert labels.most_common(1)[0][0] == "Sound, number 0" and labels["Sound, number 0"] > 200, "as uneven as AudioSet"


def test_a_list_is_timed(audioset: Path) -> None:
    result = scale.listing(audioset)
    assert result["clips"] == 1000 and 0 < result["before_bytes"] <= result["peak_bytes"]
    assert set(result["orders_s"]) == {"shuffled", "shuffled in blocks", "balanced"}
    assert all(s > 0 for s in (result["list_s"], result["weights_s"], *result["orders_s"].values()))


def test_a_list_has_its_page(small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scale, "first_step", lambda root: {"first_step_s": 7.25, "first_step_bytes": 3e9})
    assert cli.main(["bench", "scale", "--rows", "1000"]) == 0
    page = capsys.readouterr().out
    assert "`diffmavil bench scale --rows 1000`: AudioSet's tables with 1000 segments" in page
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", page, re.MULTILINE))
    assert len(rows) == 8
    assert all(re.fullmatch(r"\d+\.\d+ (s|GB)(, \d+\.\d+ GB)?", value) for value in rows.values()), rows
    assert list(rows.values())[-2:] == ["7.2 s", "3.00 GB"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("scale --rows 999", "rows must be at least 1000, got 999"),
        ("scale --rows many", "rows must be int, got many"),
        ("scale --clips 2", "--clips"),
        ("data --clips 0", "clips must be at least 1, got 0"),
        ("data --workers 0", "workers must be at least 1, got 0"),
        ("data --rounds -1", "rounds must be at least 1, got -1"),
        ("data --batch_size 0", "batch_size must be at least 1, got 0"),
        ("data --seconds 0", "seconds must be above 0, got 0.0"),
        ("data --gpu_clips_per_s 0", "gpu_clips_per_s must be above 0, got 0.0"),
        ("data --num_frames 0", "num_frames must be at least 1, got 0"),
        ("data --num_frames 40", "num_frames / fps must be at most"),
        ("data --fps 0", "fps must be above 0, got 0.0"),
        ("data --image_size 0", "image_size must be at least 1, got 0"),
        ("data --rows 5", "--rows"),
    ],
)
def test_a_mistake_is_one_line(args: str, message: str, small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *args.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
