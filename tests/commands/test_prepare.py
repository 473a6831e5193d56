"""``diffmavil prepare``, with its processes."""

from __future__ import annotations

import csv
import fcntl
import gc
import io
import json
import os
import random
import re
import signal
import subprocess
import tarfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset
from command_config import Run
from media import counter_frame, probe, tone, write_clip, write_media
from PIL import Image
from shards import command, contents, write_shards

from diffmavil import commands
from diffmavil.commands.prepare import prepare
from diffmavil.commands.prepare_pool import Failure, Job, PreparingStopped
from diffmavil.commands.prepare_report import Report
from diffmavil.data import Clip, ClipDataModule, ClipSource, FolderSource, ManifestSource, ShardSource
from diffmavil.data.audit import Audit
from diffmavil.data.shards.encode import EncodedClip
from diffmavil.data.shards.layout import Stored

KILLS = int(os.environ.get("KILLS", "1"))
"""How often the interrupted run is killed: once, to be quick."""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tars(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".tar")}


@pytest.mark.slow
def test_killed_and_gone_on_with_by_other_workers_it_writes_the_same_bytes(made_clips: Path, tmp_path: Path) -> None:
    source = ManifestSource(path=made_clips / "manifest.csv", label_column="label")
    # written by this process alone, clip by clip
    straight = write_shards(source, tmp_path / "straight", audit=Audit(), clips_per_shard=2)
    out = tmp_path / "killed"
    args = ["--source", "shards.Waiting", "--source.path", made_clips / "manifest.csv"]
    args += ["--source.label_column", "label", "--clips_per_shard", "2", "--workers", "1", "--out", out]
    paths = [row["path"] for row in rows(made_clips / "manifest.csv")]
    for k in range(KILLS):
        process = command("prepare", *args, "--source.at", paths[len(paths) * (k + 1) // (KILLS + 1)])
        before = len(list(out.glob("*.tar")))
        while len(list(out.glob("*.tar"))) <= before:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(random.Random(k).uniform(0, 0.2))
        process.kill()
        process.communicate()
        _wait_for_the_end_of_its_workers(process)
    whole = {path.name for path in out.glob("sidecars/*.json")}
    assert 0 < len(whole) < 20, "stopped before its end"
    with pytest.raises(ValueError, match="the same `diffmavil prepare` goes on"):
        ShardSource(root=out).clips()
    written = {name: (out / "sidecars" / name).stat().st_mtime_ns for name in whole}
    for workers in (3, 2):
        prepare(source=source, out=out, clips_per_shard=2, workers=workers)
        assert contents(out / "sidecars") == contents(straight / "sidecars")
        assert tars(out) == tars(straight) and len(tars(out)) == 20
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("sidecars/*.json")}
    assert done.items() >= written.items(), "a whole shard is not written again"
    files = {name for name in contents(out) if "/" not in name and not name.endswith(".tar")}
    assert files == {".lock", "prepare.json", "rejected.csv", "coverage.csv"}
    for name in ("clips", "frames", "labels", "paths"):
        assert (out / f"index/{name}.npy").read_bytes() == (straight / f"index/{name}.npy").read_bytes()


def _wait_for_the_end_of_its_workers(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "workers outlive the command"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good clips and one of each kind that is rejected."""
    root = tmp_path_factory.mktemp("mixed")
    frames = [counter_frame(k) for k in range(20)]
    write_clip(root / "a good.mp4", seconds=2.0)
    write_clip(root / "b crash.mp4", seconds=2.0)
    write_clip(root / "c hang.mp4", seconds=2.0)
    write_clip(root / "d raise.mp4", seconds=2.0)
    (root / "e empty.mp4").touch()
    write_media(root / "f mute.mp4", frames=frames)
    write_media(root / "g sound.wav", sound=tone(2.0), audio_codec="pcm_s16le")
    write_media(root / "h silent.mkv", frames=frames, sound=tone(2.0, amplitude=0.0005), audio_codec="flac")
    write_media(root / "i still.mp4", frames=frames[:1] * 20, sound=tone(2.0))
    write_media(root / "j apart.mp4", frames=frames, sound=tone(1.0))
    write_clip(root / "k short.mp4", seconds=0.3)
    write_clip(root / "l long.mp4", seconds=4.0)
    (root / "m text.mp4").write_text("no film")
    write_clip(root / "n góod.mp4", seconds=2.0)
    return root


@pytest.mark.parametrize(("by", "at_work"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_ctrl_c_reaches_every_process_and_one_answers_and_so_does_a_scheduler(
    by: signal.Signals, at_work: bool, tmp_path: Path, run: Run
) -> None:
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4")
    (tmp_path / "m.csv").write_text("path,label\na.mp4,x\nb.mp4,x\n")
    out = tmp_path / "out"
    args = f"--source.path {tmp_path / 'm.csv'} --source.label_column label --clips_per_shard 1 --out {out}".split()
    process = command("prepare", "--source", "shards.Waiting", "--source.at", "b.mp4", *args)
    assert process.stderr is not None and process.stderr.readline() == "2 clips, 2 shards, 2 to write\n"
    while at_work and not list(out.glob("sidecars/*.json")):
        time.sleep(0.01)
    time.sleep(0.5)  # or else its workers are being started: what they are forked from takes seconds to import
    if by == signal.SIGINT:
        os.killpg(process.pid, by)
    else:
        process.terminate()
    text, error = process.communicate(timeout=60)
    assert (process.returncode, text) == (130, "")
    assert [line for line in re.split(r"[\r\n]+", error) if line and not line.startswith("prepare: ")] == [
        "stopped; finished shards are kept, and the same command goes on",
        "diffmavil: interrupted",
    ]
    _wait_for_the_end_of_its_workers(process)
    assert not list(out.glob("*.part")) and len(list(out.glob("*.tar"))) == at_work
    code, text, error = run("prepare", "--source", "ManifestSource", *args, "--workers", "1")
    assert code == 0 and "kept 2 of 2 clips" in text, error


def test_every_clip_is_in_the_shards_or_rejected_with_its_reason(mixed: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    code, text, error = run(
        *f"prepare --source shards.Trouble --source.root {mixed} --out {out} --workers 1".split(),
        *"--timeout_s 3 --attempts 1 --audit.max_clip_s 3 --clips_per_shard 4".split(),
    )
    assert code == 0, error
    reasons = {Path(row["path"]).stem[2:]: row["reason"] for row in rows(out / "rejected.csv")}
    assert reasons == {
        "crash": "crashed the decoder",
        "hang": "timed out",
        "raise": "crashed the decoder",
        "empty": "empty file",
        "mute": "no audio track",
        "sound": "no video track",
        "silent": "silent",
        "still": "still picture",
        "apart": "sound and picture apart",
        "short": "too short",
        "long": "too long",
        "text": "not a media file",
    }
    details = {Path(row["path"]).stem[2:]: row["detail"] for row in rows(out / "rejected.csv")}
    assert details["crash"] == "signal 11" and details["hang"] == "after 3 s"
    assert details["raise"] == "ArithmeticError: seven is no number"
    assert details["silent"].startswith("peak -66")
    assert [Path(clip.path).stem for clip in ShardSource(root=out).clips()] == ["a good", "n góod"]
    assert "kept 2 of 14 clips" in text and "rejected 12: 2 crashed the decoder" in text
    coverage = {row["class"]: (row["listed"], row["kept"]) for row in rows(out / "coverage.csv")}
    assert coverage[""] == ("14", "2") and coverage["a"] == ("1", "1") and coverage["b"] == ("1", "0")
    # checks can be turned off, one by one
    off = "--audit.silence_dbfs null --audit.still_levels null --audit.apart_s null --audit.min_clip_s 0".split()
    for name in "bcd":
        next(mixed.glob(f"{name} *")).unlink()
    code, text, error = run(*f"prepare --source FolderSource --source.root {mixed} --out {out}2".split(), *off)
    assert code == 0 and "kept 7 of 11 clips" in text, error


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its files open
def test_tar_and_webdataset_read_the_shards_as_they_are(made_clips: Path, tmp_path: Path) -> None:
    source = ManifestSource(path=made_clips / "manifest.csv", label_column="label")
    out = write_shards(source, tmp_path / "out", clips_per_shard=20)
    clips = list(source.clips())
    listed = subprocess.run(["tar", "tf", out / "shard-000001.tar"], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    names = listed.stdout.splitlines()
    stem = f"00000020_{Path(clips[20].path).stem}"
    assert names[:4] == [f"{stem}.{ending}" for ending in ("json", "flac", "000.jpg", "001.jpg")]
    with tarfile.open(out / "shard-000001.tar") as archive:
        assert archive.getnames() == names
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in archive} == {(0, 0, 0, 0o644)}
    urls = [str(path) for path in sorted(out.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    gc.collect()
    assert len(samples) == len(clips)
    for sample, clip in zip(samples, clips, strict=True):
        about = json.loads(sample["json"])
        assert (about["path"], about["labels"], about["split"]) == (clip.path, list(clip.labels), clip.split)
        sound, rate = soundfile.read(io.BytesIO(sample["flac"]))
        assert rate == 16000 and abs(len(sound) - 24000) < 1600
        assert sum(name.endswith(".jpg") for name in sample) == 6
        assert np.asarray(Image.open(io.BytesIO(sample["005.jpg"]))).shape == (48, 48, 3)


def test_what_a_user_gets_wrong_is_one_line(mixed: Path, tmp_path: Path, run: Run) -> None:
    source = tmp_path / "in"
    write_clip(source / "a.mp4", seconds=1.0)
    args = f"prepare --source FolderSource --source.root {source} --out {tmp_path / 'out'} --workers 1".split()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prepare.json.part").write_text("{")  # killed when it had only just begun
    assert run(*args)[0] == 0
    before = contents(tmp_path / "out")
    assert run(*args)[0] == 0
    assert contents(tmp_path / "out") == before
    for more, message in [
        ("--stored.fps 2", "was begun with stored.fps = 4.0, got 2.0: choose another --out"),
        ("--modalities audio", "was begun with modalities = audio_video, got audio"),
        ("--audit.apart_s null", "was begun with audit.apart_s = 0.5, got None"),
        ("--stored.quality 0", "quality must be in [1, 100], got 0"),
        ("--workers 0", "workers must be at least 1, got 0"),
        ("--timeout_s 0", "timeout_s must be above 0"),
        ("--most_lost_in_a_row 0", "most_lost_in_a_row must be at least 1, got 0"),
        ('--retry ["bad"]', "retry must be some of missing file"),
    ]:
        code, text, error = run(*args, *more.split())
        assert (code, text) == (2, "") and message in error and error.count("\n") == 1, error
    with (tmp_path / "out" / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "out must be written by one command at a time" in run(*args)[2]
    (source / "a.mp4").rename(source / "b.mp4")
    assert "was begun with other clips" in run(*args)[2]
    write_clip(source / "c.mp4", seconds=1.0)
    assert "was begun with clips = 1, got 2" in run(*args)[2]
    assert contents(tmp_path / "out") == before
    settings = (tmp_path / "out" / "prepare.json").read_text()
    for damaged in ("{", "[]"):
        (tmp_path / "out" / "prepare.json").write_text(damaged)
        code, text, error = run(*args)
        assert (code, text) == (2, "") and "prepare.json is damaged (" in error and error.count("\n") == 1, error
    (tmp_path / "out" / "prepare.json").write_text(settings)
    args[6] = str(source)
    assert "out must be a new or empty folder" in run(*args)[2]
    again = f"prepare --source ShardSource --source.root {tmp_path / 'out'} --out {tmp_path / 'finer'}".split()
    for more, said in (
        (["--stored.fps", "8"], "stored.fps must be at most that of the source's shards, 4, got 8"),
        (
            ["--stored.sample_rate_hz", "8000"],
            "stored.sample_rate_hz must be that of the source's shards, 16000, got 8000",
        ),
    ):
        assert run(*again, *more) == (2, "", f"diffmavil: error: {said}\n")
    abstract = run("prepare", "--source.root", "x", "--out", str(tmp_path / "finer"))[2]
    assert (
        abstract == "diffmavil: error: source must be named as a class before its keys, such as --source FolderSource\n"
    )
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.mp4").write_text("no film")
    code, text, error = run(*f"prepare --source FolderSource --source.root none --out {tmp_path / 'out3'}".split())
    last = error.splitlines()[-1]
    assert code == 2 and "no clip of 1 passes: rejected 1: 1 not a media file" in last and text == ""


def test_the_source_may_come_first(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "films").mkdir(exist_ok=True)
        write_clip(tmp_path / "films" / f"{name}.mp4")
    (tmp_path / "clips.csv").write_text("path\nfilms/a.mp4\nfilms/b.mp4\n")
    audio = ["./films/", "--modalities=audio"]
    for k, words in enumerate((["films"], ["clips.csv"], ["FolderSource", "--source.root", "films"], audio)):
        code, text, error = run("prepare", *words, "--out", f"out{k}", "--workers", "1")
        assert code == 0 and "kept 2 of 2 clips" in text, error
        with tarfile.open(f"out{k}/shard-000000.tar") as tar:
            names = tar.getnames()
        assert sum(name.endswith(".flac") for name in names) == 2
        assert any(name.endswith(".jpg") for name in names) == (words is not audio)
    assert run("prepare", "filmz", "--out", "o") == (2, "", "diffmavil: error: source: no class is named filmz\n")
    assert run("prepare", "no/films", "--out", "o") == (
        2,
        "",
        "diffmavil: error: root must be a folder, got no/films\n",
    )


class Listed(ClipSource):
    """Clips from a list; there need not be any file."""

    def __init__(self, clips: list[Clip]) -> None:
        self.listed = clips

    def clips(self) -> list[Clip]:
        return self.listed


@pytest.mark.parametrize(
    "change",
    [{"path": "c.mp4"}, {"start_s": None}, {"start_s": 0.5}, {"end_s": 2.5}, {"split": "test"}, {"labels": ("cat",)}]
    + [{"labels": ("cat", "dog")}, {"labels": ()}, {"fold": 1}, {"fold": None}],
)
def test_a_folder_of_shards_is_gone_on_with_from_the_same_clips_only(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise PreparingStopped

    monkeypatch.setattr(commands.prepare, "start_workers", stop)
    clips = [Clip(f"{name}.mp4", 0.0, 2.0, "train", ("dog", "cat"), fold=2) for name in "ab"]
    for _ in range(2):
        with pytest.raises(PreparingStopped):
            prepare(source=Listed(clips), out=tmp_path / "out")
    for others in ([clips[0], replace(clips[1], **change)], clips[::-1]):
        with pytest.raises(ValueError, match="was begun with other clips .*: choose another --out"):
            prepare(source=Listed(others), out=tmp_path / "out")


def test_a_disk_that_goes_away_is_not_taken_for_bad_clips(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for k in range(12):
        write_clip(root / f"{k:02d}.mp4", seconds=1.0)
    clips = [path.rename(path.with_suffix(".gone")) for path in sorted(root.iterdir())[4:]]
    (tmp_path / "m.csv").write_text("path\n" + "".join(f"in/{k:02d}.mp4\n" for k in range(12)))
    source, out = ManifestSource(path=tmp_path / "m.csv"), tmp_path / "out"
    with pytest.raises(
        Exception,
        match="6 clips one after .* cannot be had: the storage seems to be gone; the last: .*09.mp4: missing file",
    ):
        prepare(source=source, out=out, workers=1, clips_per_shard=3, most_lost_in_a_row=6)
    assert [path.name for path in sorted(out.iterdir())] == [
        ".lock",
        "prepare.json",
        "shard-000000.tar",
        "shard-000001.tar",
        "shard-000002.tar",
        "sidecars",
    ]
    for path in clips:
        path.rename(path.with_suffix(".mp4"))
    prepare(source=source, out=out, workers=1, clips_per_shard=3)
    assert len(list(ShardSource(root=out).clips())) == 7, "what was rejected before it stopped stays so"
    prepare(source=source, out=out, workers=1, clips_per_shard=3, retry=["missing file"])
    assert len(list(ShardSource(root=out).clips())) == 12


def test_what_a_table_lists_and_has_no_file_is_counted_too(tmp_path: Path) -> None:
    report = Report([Clip("a", labels=("x",))], Counter({("train", ""): 2, ("train", "y"): 2, ("test", ""): 1}))
    report.write(tmp_path)
    assert rows(tmp_path / "coverage.csv") == [
        {"split": split, "class": name, "listed": listed, "missing": missing, "kept": "0"}
        for split, name, listed, missing in (
            ("train", "", "3", "2"),
            ("train", "x", "1", "0"),
            ("train", "y", "2", "2"),
            ("test", "", "1", "1"),
        )
    ]
    assert report.lines(tmp_path)[1] == f"no file for 3 ({tmp_path / 'coverage.csv'})"


def test_class_ids_are_those_of_the_source_also_where_a_whole_class_is_rejected(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_clip(tmp_path / f"{name}.mp4", seconds=0.2 if name == "a" else 1.0)
    (tmp_path / "m.csv").write_text("path,label\na.mp4,ant\nb.mp4,bee\nc.mp4,cow\n")
    source, out = ManifestSource(path=tmp_path / "m.csv", label_column="label"), tmp_path / "out"
    prepare(source=source, out=out, workers=1)
    data = ClipDataModule(source=ShardSource(root=out), modalities="audio", clip_s=0.64)
    data.setup("fit")
    assert data.classes == ["ant", "bee", "cow"] and [data.clips.class_ids(k) for k in range(2)] == [(1,), (2,)]


def test_a_clip_may_take_as_long_as_timeout_s_says(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a.mp4", seconds=1.0)
    source, clip = FolderSource(root=tmp_path / "in"), Clip(str(tmp_path / "in" / "a.mp4"))
    outcomes = [Job(source, "audio_video", Stored(), Audit(), timeout_s).run(clip) for timeout_s in (1e-6, 100.0)]
    assert isinstance(outcomes[0], Failure) and outcomes[0].reason == "timed out"
    assert isinstance(outcomes[1], EncodedClip)


def test_a_segment_that_its_file_has_in_part_only_is_rejected(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4")
    length_s = probe(tmp_path / "a.mp4").duration_s
    ends = (length_s - 0.1, length_s + 0.3, length_s + 9)
    lines = [f"a.mp4,{start},{end}\n" for start, end in zip((0, 0, 0), ends, strict=True)]
    (tmp_path / "clips.csv").write_text("path,start_s,end_s\n" + "".join(lines))
    audit = Audit(still_levels=None, apart_s=None, min_clip_s=0.1)
    out = write_shards(ManifestSource(path=tmp_path / "clips.csv"), tmp_path / "out", audit=audit)
    assert len(list(ShardSource(root=out).clips())) == 2
