"""``diffmavil bench data``: how many clips a second come out of files, and how many out of shards."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from tqdm import tqdm

from diffmavil.commands.bench.data_bare import Bare, BareVideo, LoadersShards, PyAVShards
from diffmavil.commands.bench.data_clips import CLIP_S, make_footage
from diffmavil.commands.bench.device import machine
from diffmavil.commands.bench.options import BenchOptions
from diffmavil.commands.bench.settings import DataSettings
from diffmavil.commands.prepare import prepare
from diffmavil.cores import leave_cores
from diffmavil.data import ClipDataModule, FolderSource, ShardSource
from diffmavil.data.clips import ClipSource
from diffmavil.data.shards.layout import Stored
from diffmavil.types import RawBatch

FILES: Final = "files, bare PyAV"
FILES_LOADER: Final = "files, loader"
SHARDS: Final = "shards, bare PyAV"
SHARDS_OWN: Final = "shards, the loader's decoders alone"
SHARDS_LOADER: Final = "shards, loader"
SHARDS_CPU: Final = "shards, loader and spectrograms and scaling on the CPU"
SHARDS_CUDA: Final = "shards, loader and spectrograms and scaling on the GPU"


def bench_data(options: BenchOptions[DataSettings]) -> None:
    """Make clips, prepare them, and time in turns how they are read; print a page.

    Args:
        options: The command line.


    Raises:
        ValueError: If a value is out of its range.
    """
    with tempfile.TemporaryDirectory(prefix="diffmavil-bench-") as folder:
        result = measure(options.settings, Path(folder))
    result["command"] = options.command
    options.show(result, as_markdown(result))


def measure(settings: DataSettings, folder: Path) -> dict[str, Any]:
    """All figures of a page.

    Args:
        settings: What to measure.
        folder: Empty folder for the clips and shards.
    """
    files, shards = folder / "files", folder / "shards"
    files.mkdir()
    _data(settings, FolderSource(root=files))  # what is wrong with the numbers is said before clips are made
    leave_cores(settings.workers)
    pool = multiprocessing.get_context("spawn").Pool(settings.workers, torch.set_num_threads, (1,))
    with pool:
        made = pool.imap_unordered(partial(_make, files), range(settings.clips))
        list(tqdm(made, total=settings.clips, desc="make clips", unit="clip"))
        start = time.perf_counter()
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            prepare(source=FolderSource(root=files), out=shards, workers=settings.workers)
        prepare_s = time.perf_counter() - start
        ways = _ways(settings, files, shards, pool)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():  # warm up
            way(settings.clips)
        counts = {name: _count(way, settings) for name, way in ways.items()}
        for _ in tqdm(range(settings.rounds), desc="rounds"):
            for name, way in ways.items():
                speeds[name].append(counts[name] / _timed(way, counts[name]))
    size = {name: sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) for name, root in
            (("files", files), ("shards", shards))}  # fmt: skip
    return {
        "machine": machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "settings": {field.name: getattr(settings, field.name) for field in fields(DataSettings)},
        "clip": {name: count / settings.clips / 1e6 for name, count in size.items()},
        "prepare_core_s": prepare_s * settings.workers / settings.clips,
        "ways": [
            {"name": name, "clips_per_s": median(values), "min": min(values), "max": max(values)}
            for name, values in speeds.items()
        ],
    }


def _make(folder: Path, number: int) -> None:
    make_footage(folder / f"{number:03d}.mp4", number)


def _ways(settings: DataSettings, files: Path, shards: Path, pool: Any) -> dict[str, Callable[[int], None]]:
    """Ways of reading some clips; all read the centred windows."""
    data = {"files": _data(settings, FolderSource(root=files)), "shards": _data(settings, ShardSource(root=shards))}
    for module in data.values():
        module.setup("fit")
    start_s = (CLIP_S - settings.num_frames / settings.fps) / 2
    times_s = [start_s + k / settings.fps for k in range(settings.num_frames)]
    paths = [clip.path for clip in data["files"].clips]
    video = BareVideo(
        paths=paths,
        times_s=times_s,
        short_side=data["files"].short_side,
        sample_rate_hz=data["files"].audio_transform.sample_rate_hz,
    )
    stored: dict[str, Any] = {"root": shards, "times_s": times_s, "fps": Stored().fps}
    ways: dict[str, Callable[[int], None]] = {
        FILES: partial(_bare, pool, video, settings.clips),
        FILES_LOADER: partial(_read, data["files"]),
        SHARDS: partial(_bare, pool, PyAVShards(**stored), settings.clips),
        SHARDS_OWN: partial(_bare, pool, LoadersShards(**stored), settings.clips),
        SHARDS_LOADER: partial(_read, data["shards"]),
        SHARDS_CPU: partial(_read, data["shards"], device="cpu"),
    }
    if torch.cuda.is_available():
        ways[SHARDS_CUDA] = partial(_read, data["shards"], device="cuda")
    return ways


def _data(settings: DataSettings, source: ClipSource) -> ClipDataModule:
    return ClipDataModule(
        source=source,
        batch_size=settings.batch_size,
        num_workers=settings.workers,
        num_frames=settings.num_frames,
        fps=settings.fps,
        image_size=settings.image_size,
    )


def _bare(pool: Any, decode: Bare, clips: int, count: int) -> None:
    """Decode in the pool's processes; nothing comes back."""
    pool.map(decode, [k % clips for k in range(count)], chunksize=8)


def _read(data: ClipDataModule, count: int, device: str | None = None) -> None:
    """Let the loader read; on ``device``, if any, make of its batches what a model reads."""
    for raw in data.eval_dataloader([k % len(data.clips) for k in range(count)]):
        assert isinstance(raw, RawBatch) and not raw.skips, raw
        if device is not None:
            data.prepare(raw, device)
    if device == "cuda":
        torch.cuda.synchronize()


def _count(way: Callable[[int], None], settings: DataSettings) -> int:
    """Clips that take about as long as wanted, in whole batches."""
    few = settings.batch_size * settings.workers
    return max(few, round(settings.seconds / _timed(way, few)) * few)


def _timed(way: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    way(count)
    return time.perf_counter() - start


def as_markdown(result: dict[str, Any]) -> str:
    """The page of a measurement."""
    settings, clip, hardware = result["settings"], result["clip"], result["machine"]
    speed = {way["name"]: way["clips_per_s"] for way in result["ways"]}
    target, workers = settings["gpu_clips_per_s"], settings["workers"]
    lines = [
        "# Reading clips",
        "",
        f"`{result['command']}` on {hardware['gpu'] or 'no GPU'}, {hardware['cores']} cores of "
        f"{hardware['processor']}: {workers} processes, {settings['rounds']} rounds in turns, batches of "
        f"{settings['batch_size']}; median (lowest to highest).",
        "",
        f"Clips of {CLIP_S} s: H.264 640x360 at 30 frames a second and stereo AAC, {clip['files']:.2f} MB each; "
        f"prepared, {clip['shards']:.2f} MB and {result['prepare_core_s']:.2f} s of a core once. Read are {CLIP_S} s "
        f"of sound at 16 kHz and {settings['num_frames']} pictures at {settings['fps']:g} a second.",
        "",
        f"| way | clips/s | ms of a core a clip | cores for {target:g} clips/s |",
        "|---|---|---|---|",
    ]
    for way in result["ways"]:
        per_core = way["clips_per_s"] / workers
        spread = f"{way['clips_per_s']:.1f} ({way['min']:.1f} to {way['max']:.1f})"
        lines.append(f"| {way['name']} | {spread} | {1000 / per_core:.1f} | {target / per_core:.0f} |")
    lines += [
        "",
        f"- Shards against files, by the loader: {speed[SHARDS_LOADER] / speed[FILES_LOADER]:.1f} times.",
        f"- The loader against PyAV's bare decoding of the same pictures and sound: files "
        f"{speed[FILES_LOADER] / speed[FILES]:.0%}, shards {speed[SHARDS_LOADER] / speed[SHARDS]:.0%}.",
        f"- Against its own decoders alone (torchvision's for JPEG and soundfile's for FLAC, which are faster than "
        f"PyAV's): shards {speed[SHARDS_LOADER] / speed[SHARDS_OWN]:.0%}.",
    ]
    return "\n".join(lines)
