"""``diffmavil prepare``: check the clips of a data set and write them into shards for fast reading."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from diffmavil.checks import MAX_CLIPS, MAX_TIMEOUT_S, MAX_WORKERS, check_number
from diffmavil.commands.prepare_pool import Failure, Job, PreparingStopped, Workers, start_workers
from diffmavil.commands.prepare_report import Report
from diffmavil.cores import available_cores
from diffmavil.data.atomic import make_folder, partial_of
from diffmavil.data.audit import Audit
from diffmavil.data.clip_table import ClipTable
from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.errors import NO_AUDIO, NO_VIDEO, REASONS, MediaError
from diffmavil.data.json_files import read_json
from diffmavil.data.lost import MAYBE_GONE, LostInARow
from diffmavil.data.shards.encode import EncodedClip
from diffmavil.data.shards.index import check_sidecar, remove_index, write_index
from diffmavil.data.shards.layout import FORMAT_VERSION, INDEX_FOLDER, SETTINGS_FILE, Stored, shard_name
from diffmavil.data.shards.lock import locked
from diffmavil.data.shards.sidecar import Rejection, Sidecar, read_sidecar
from diffmavil.data.shards.source import ShardSource
from diffmavil.data.shards.writer import ShardWriter, write_atomically
from diffmavil.types import Modalities

_STORED: Final = Stored()
_AUDIT: Final = Audit()
_LOCK_FILE: Final = ".lock"
_MAX_CLIPS_PER_SHARD: Final = 100_000
"""A sidecar is read in one piece."""


def prepare(
    *,
    source: ClipSource,
    out: Path,
    modalities: Modalities = "audio_video",
    stored: Stored = _STORED,
    audit: Audit = _AUDIT,
    clips_per_shard: int = 256,
    workers: int | None = None,
    timeout_s: float = 60.0,
    attempts: int = 2,
    most_lost_in_a_row: int | None = 256,
    retry: list[str] | None = None,
) -> None:
    """Read each clip of a data set once, check it, and write what passes into shards; train from them with ShardSource.

    Stop it at any time, also by kill -9 or a power cut: the same command goes on with the shards that are not whole.
    The shards are the same, byte for byte, however often it was stopped and whatever the workers. rejected.csv names
    every clip that is left out, and why.

    Args:
        source: Where the clips come from, such as FolderSource or ManifestSource. A folder, a manifest (.csv) or the
            name of a class may also be the first word: prepare videos --out shards.
        out: Folder to write into; made if missing.
        modalities: What a clip must have and what is stored of it.
        stored: How sound and pictures are stored.
        audit: What is checked beside that a clip can be read.
        clips_per_shard: Clips of the source that a shard is made of.
        workers: Processes to work in; every core of this process when not given.
        timeout_s: Seconds that a clip may take; one that takes longer is rejected.
        attempts: Times that a clip is tried that is missing, cannot be read, times out or crashes the decoder.
        most_lost_in_a_row: So many clips one after the other that are missing, cannot be opened or time out are no bad
            clips but a storage that is gone, and stop the run; so do 8 that take more than a minute. null: never.
        retry: Reasons of rejected.csv, such as ["timed out"]: shards with clips that were rejected for one of these are
            made again.

    Raises:
        ValueError: If a number is outside its range, if ``out`` holds something else, or if no clip passes.
        PreparingStopped: If the disk or the workers are gone.
        OSError: If it cannot be written, such as on a full disk.
    """
    check_number("clips_per_shard", clips_per_shard, at_least=1, limit=_MAX_CLIPS_PER_SHARD)
    check_number("workers", workers, at_least=1, limit=MAX_WORKERS, optional=True)
    check_number("timeout_s", timeout_s, above=0, limit=MAX_TIMEOUT_S)
    check_number("attempts", attempts, at_least=1, limit=1000)
    check_number("most_lost_in_a_row", most_lost_in_a_row, at_least=1, limit=MAX_CLIPS, optional=True)
    if not set(retry or ()) <= set(REASONS):
        raise ValueError(f"retry must be some of {', '.join(REASONS)}, got {retry}")
    if isinstance(source, ShardSource):
        _require_stored(source.stored, stored)
    digest = hashlib.sha256()
    clips = ClipTable(_digested(source.clips(), digest), source.class_names())
    if not clips:
        raise ValueError("source must have clips, got none")
    settings = {
        "format_version": FORMAT_VERSION,
        "modalities": modalities,
        "stored": asdict(stored),
        "audit": asdict(audit),
        "clips_per_shard": clips_per_shard,
        "clips": len(clips),
        "clips_sha256": digest.hexdigest(),
    }
    with _alone(out):
        _claim(out, settings)
        numbers = range(-(-len(clips) // clips_per_shard))
        shards = _Shards(out, clips, clips_per_shard, most_lost_in_a_row)
        todo = [number for number in numbers if not shards.is_done(number, retry or (), stored.fps)]
        if todo:
            print(f"{len(clips)} clips, {len(numbers)} shards, {len(todo)} to write", file=sys.stderr)
            remove_index(out / INDEX_FOLDER)
            job = Job(source, modalities, stored, audit, timeout_s)
            count = workers or available_cores()
            try:
                with (
                    _terminated_as_interrupted(),
                    start_workers(job, count=count, timeout_s=timeout_s, attempts=attempts) as processes,
                ):
                    shards.write(todo, processes)
            except KeyboardInterrupt:
                print("\nstopped; finished shards are kept, and the same command goes on", file=sys.stderr)
                raise
        report = Report(clips, source.num_missing())
        sidecars = report.counted(_finished(out, number) for number in numbers)
        write_index(out / INDEX_FOLDER, sidecars, classes=clips.classes, settings=settings)
        report.write(out)
    if report.num_kept == 0:
        only = next(iter(report.reasons)) if len(report.reasons) == 1 else ""
        stream = {NO_AUDIO: "video", NO_VIDEO: "audio"}.get(only)
        advice = f"; to prepare {stream} alone, set modalities to {stream}" if stream else ""
        raise ValueError(f"no clip of {len(clips)} passes: {report.lines(out)[1]}{advice}")
    print("\n".join(report.lines(out)))


def with_source(words: list[str]) -> list[str]:
    """A command line of which the first word may be the source itself, with that word as keys.

    Args:
        words: A folder of media files, a manifest (``.csv``), or the name of a class of sources; then keys.
    """
    if not words or words[0].startswith("-"):
        return words
    source, *keys = words
    if Path(source).suffix.lower() == ".csv":
        return ["--source", "ManifestSource", "--source.path", source, *keys]
    if Path(source).is_dir() or os.sep in source:
        return ["--source", "FolderSource", "--source.root", source, *keys]
    return ["--source", source, *keys]


def _require_stored(before: Stored, now: Stored) -> None:
    """What is prepared from shards cannot be finer than they are.

    Raises:
        ValueError: If it should be.
    """
    if now.fps > before.fps:
        raise ValueError(f"stored.fps must be at most that of the source's shards, {before.fps:g}, got {now.fps:g}")
    if now.sample_rate_hz != before.sample_rate_hz:
        rule = f"must be that of the source's shards, {before.sample_rate_hz}"
        raise ValueError(f"stored.sample_rate_hz {rule}, got {now.sample_rate_hz}")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end the work as Ctrl-C does: in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Shards:
    """Writes shards from what the workers make of the clips.

    Args:
        out: Folder to write into.
        clips: All clips.
        clips_per_shard: Clips of the source that a shard is made of.
        most_lost_in_a_row: So many lost clips stop the run.
    """

    def __init__(self, out: Path, clips: ClipTable, clips_per_shard: int, most_lost_in_a_row: int | None) -> None:
        self._out, self._clips, self._per_shard = out, clips, clips_per_shard
        self._most_lost = most_lost_in_a_row

    def is_done(self, number: int, retry: Collection[str], fps: float) -> bool:
        """Whether a shard is whole, its sidecar is of the source's clips, and none of them is to be tried again.

        Args:
            number: Number of the shard.
            retry: Reasons for which a rejected clip is tried again.
            fps: Stored pictures a second.
        """
        sidecar, positions = read_sidecar(self._out, number), self._positions(number)
        if sidecar is None or any(rejection["reason"] in retry for rejection in sidecar.rejected):
            return False
        try:
            check_sidecar(sidecar, classes=self._clips.classes, fps=fps)
        except ValueError:  # damaged, or somebody wrote into it
            return False
        return sidecar.is_of(self._clips[positions.start : positions.stop], positions.start)

    def write(self, numbers: Sequence[int], workers: Workers) -> None:
        """Write some shards, in order."""
        lost = LostInARow(self._most_lost)
        done = len(self._clips) - sum(len(self._positions(number)) for number in numbers)
        clips = (self._clips[position] for number in numbers for position in self._positions(number))
        outcomes = workers.encode(clips)
        pause_s = 0.5 if sys.stderr.isatty() else 30.0  # between the bar's updates: a log file keeps all of them
        with tqdm(
            total=len(self._clips), initial=done, desc="prepare", unit="clip", mininterval=pause_s, smoothing=0.05
        ) as bar:
            for number in numbers:
                writer = ShardWriter(self._out, number)
                try:
                    for position, outcome in zip(self._positions(number), outcomes, strict=False):
                        if isinstance(outcome, EncodedClip):
                            writer.add(position, outcome)
                            lost.note(None)
                        else:
                            clip = self._clips[position]
                            place = (position, clip.path, clip.start_s, clip.end_s)
                            writer.reject(Rejection(*place, outcome.reason, outcome.detail))
                            lost.note(outcome.reason)
                            if lost.is_gone:
                                raise PreparingStopped(_gone(lost.count, clip, outcome))
                        bar.update()
                    writer.finish()
                except BaseException:
                    writer.abandon()
                    raise

    def _positions(self, number: int) -> range:
        """The source's positions of which a shard is made."""
        begin = number * self._per_shard
        return range(begin, min(begin + self._per_shard, len(self._clips)))


def _gone(count: int, clip: Clip, failure: Failure) -> str:
    """What to say where the storage seems to be gone."""
    last = MediaError(clip.path, failure.reason, failure.detail)
    return (
        f"{count} clips one after the other cannot be had: the storage seems to be gone; the last: {last}. The same "
        f"command with --retry '{json.dumps(list(MAYBE_GONE))}' goes on and makes again what was lost; "
        "--most_lost_in_a_row null goes on regardless"
    )


def _digested(clips: Iterable[Clip], digest: hashlib._Hash) -> Iterator[Clip]:
    """Take a checksum of clips on their way by."""
    for clip in clips:
        fields = (clip.path, clip.start_s, clip.end_s, clip.split, clip.labels, clip.fold)
        digest.update(repr(fields).encode("utf-8", "surrogateescape"))
        yield clip


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Note the settings in a new folder; make sure that one that was begun was begun with the same."""
    path = out / SETTINGS_FILE
    if not path.is_file():
        write_atomically(path, json.dumps(settings, indent=1))
        return
    try:
        before = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): choose another --out") from error
    if not isinstance(before, dict):
        raise ValueError(f"{path} is damaged (no object): choose another --out")
    for name, value in _flat(settings).items():
        was = _flat(before).get(name)
        if was != value:
            wrong = "other clips" if name == "clips_sha256" else f"{name} = {was}, got {value}"
            why = " (files or rows differ, or their folder is given by another path)"
            raise ValueError(
                f"{out} was begun with {wrong}{why if name.startswith('clips') else ''}: choose another --out"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other commands from writing into the folder, which must be new, or one that prepare began."""
    settings, lock = out / SETTINGS_FILE, out / _LOCK_FILE
    if not settings.is_file():
        begun = (partial_of(settings), lock)  # all that a command leaves that is killed here
        if out.exists() and (not out.is_dir() or any(entry not in begun for entry in out.iterdir())):
            raise ValueError(f"out must be a new or empty folder, or one that prepare began, got {out}")
    make_folder(out)
    try:
        with locked(lock, wait=False):
            yield
    except BlockingIOError:
        raise ValueError(f"out must be written by one command at a time, got {out}, which another writes") from None


def _finished(out: Path, number: int) -> Sidecar:
    sidecar = read_sidecar(out, number)
    if sidecar is None:
        raise PreparingStopped(f"{out / shard_name(number)} is not whole any more; the same command makes it again")
    return sidecar
