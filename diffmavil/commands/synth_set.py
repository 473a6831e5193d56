"""A data set of synthetic clips: the files, and the manifest that lists them."""

from __future__ import annotations

import csv
import multiprocessing
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from diffmavil.cores import available_cores
from diffmavil.data.synthetic import KINDS, ClipFormat, label_of, make_clip, split_of, write_mp4

COLUMNS = ("path", "split", "label", "rate_hz", "pitch_hz", "scale", "snr_db", "loudness_dbfs", "onsets_s")
"""Columns of ``manifest.csv``: the file, its split and kind, and what the clip was made from."""


def write_set(
    out: Path,
    *,
    clips: int,
    seed: int,
    workers: int | None,
    clip_s: float,
    size_px: int,
    fps: int,
    sample_rate_hz: int,
) -> None:
    """Make the clips and ``manifest.csv``; the arguments are those of :func:`diffmavil.commands.synth.synth`.

    Raises:
        ValueError: If a number is outside its range.
    """
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
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
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
