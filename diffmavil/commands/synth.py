"""``diffmavil synth``: make a data set of clips in which what is seen causes what is heard."""

from __future__ import annotations

import csv
import multiprocessing
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from diffmavil.checks import MAX_CLIPS, MAX_WORKERS, check_number, check_seed
from diffmavil.commands.cores import available_cores
from diffmavil.data.synthetic import KINDS, ClipFormat, label_of, make_clip, split_of, write_mp4

COLUMNS = ("path", "split", "label", "rate_hz", "pitch_hz", "scale", "snr_db", "loudness_dbfs", "onsets_s")
"""Columns of ``manifest.csv``: the file, its split and kind, and what the clip was made from."""


def synth(
    *,
    out: Path,
    clips: int = 1000,
    seed: int = 0,
    clip_s: float = 3.0,
    size_px: int = 112,
    fps: int = 16,
    sample_rate_hz: int = 16000,
    workers: int | None = None,
) -> None:
    """Make .mp4 clips (H.264 and AAC) of ten kinds of event, and manifest.csv that lists them.

    The kinds take turns and every fourth clip of a kind is for testing, so kinds and splits are balanced when
    the number of clips is a multiple of 40. The same arguments give the same bytes, whatever the workers.

    Args:
        out: Folder to write into; made if missing. Clips go into its subfolder clips.
        clips: Number of clips, at least 1.
        seed: Seed of the data set, 0 or more. A clip depends on it and on its own number, not on other clips.
        clip_s: Length of each clip in seconds, 1 to 60.
        size_px: Width and height of the picture in pixels, an even number from 32 to 1024.
        fps: Frames a second, 4 to 60.
        sample_rate_hz: Samples of sound a second.
        workers: Processes to work in; every core of this process when not given.

    Raises:
        ValueError: If a number is outside its range, or if there is a manifest already.
    """
    check_number("clips", clips, at_least=1, limit=MAX_CLIPS)
    check_seed("seed", seed)
    check_number("workers", workers, at_least=1, limit=MAX_WORKERS, optional=True)
    if (manifest := out / "manifest.csv").exists():
        raise ValueError(f"out must be a folder without a manifest.csv, which would be written over, got {out}")
    clip_format = ClipFormat(clip_s=clip_s, size_px=size_px, fps=fps, sample_rate_hz=sample_rate_hz)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    make = partial(_make, out, seed, clip_format)
    count = min(workers or available_cores(), clips)
    if count == 1:
        rows = list(tqdm(map(make, range(clips)), total=clips, desc="synth", unit="clip"))
    else:
        # A forked worker has everything imported already; but only on Linux is it safe to fork.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with context.Pool(count) as pool:
            rows = list(tqdm(pool.imap(make, range(clips), chunksize=4), total=clips, desc="synth", unit="clip"))
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{clips} clips of {len(KINDS)} kinds in {out}")


def _make(out: Path, seed: int, clip_format: ClipFormat, index: int) -> tuple[str, ...]:
    """Make and write one clip; return its row of the manifest."""
    clip = make_clip(seed, index, clip_format)
    path = Path("clips") / f"{index:06d}_{clip.label}.mp4"
    write_mp4(
        out / path,
        frames=clip.frames,
        fps=clip_format.fps,
        waveform=clip.waveform,
        sample_rate_hz=clip_format.sample_rate_hz,
    )
    return (
        path.as_posix(),
        split_of(index),
        label_of(index),
        f"{clip.event.rate_hz:.3f}",
        f"{clip.event.pitch_hz:.1f}",
        f"{clip.scale:.3f}",
        f"{clip.snr_db:.1f}",
        f"{clip.loudness_dbfs:.1f}",
        ";".join(f"{onset:.3f}" for onset in clip.event.onsets_s),
    )
