"""``diffmavil bench scale``: what a list of two million clips costs before the first training step."""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from diffmavil.commands.bench.options import BenchOptions
from diffmavil.commands.bench.settings import ScaleSettings
from diffmavil.data import AudioSetSource, ClipDataModule
from diffmavil.data.order import Balanced, Shuffled, ShuffledInBlocks
from diffmavil.data.synthetic import ClipFormat, make_clip, write_mp4

_CLASSES: Final = 527
_FILES: Final = 8
_FOLDERS: Final = 64

_CONFIG: Final = """
model:
  class_path: PretrainModule
  init_args:
    model: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}
data:
  source: {class_path: AudioSetSource, init_args: {root: ., train: [unbalanced]}}
  batch_size: 8
  num_workers: 2
  multi_label: true
  clip_s: 0.64
  num_mel_bins: 32
  num_frames: 2
  fps: 5
  image_size: 32
trainer:
  accelerator: cpu
  max_steps: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  limit_val_batches: 0
"""


def bench_scale(options: BenchOptions[ScaleSettings]) -> None:
    """Make a data set of AudioSet's layout whose files are links to a few, and print what it takes to list and start.

    Args:
        options: The command line.


    Raises:
        ValueError: If a value is out of its range.
    """
    rows = options.settings.rows
    with tempfile.TemporaryDirectory(prefix="diffmavil-bench-") as folder:
        make_audioset(Path(folder), rows)
        result = first_step(Path(folder)) | {"rows": rows}
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process that has held nothing else
            result |= pool.apply(listing, (Path(folder),))
    options.show(result, as_markdown(result))


def make_audioset(root: Path, rows: int) -> None:
    """Write tables of AudioSet's layout, and links to a few short files under all of their names.

    Args:
        root: Folder to write into.
        rows: Segments of the unbalanced train split.
    """
    random = np.random.default_rng(0)
    clip_format = ClipFormat(clip_s=1.0, size_px=32, fps=8, sample_rate_hz=16000)
    for number in range(_FILES):
        clip = make_clip(0, number, clip_format)
        write_mp4(root / f"{number}.mp4", frames=clip.frames, fps=8, waveform=clip.waveform, sample_rate_hz=16000)
    with (root / "class_labels_indices.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "mid", "display_name"])
        writer.writerows([k, f"/m/{k:05x}", f"Sound, number {k}"] for k in range(_CLASSES))
    (root / "eval_segments.csv").write_text("# YTID, start_seconds, end_seconds, positive_labels\n")
    popularity = 1 / (1 + np.arange(_CLASSES))
    with (root / "unbalanced_train_segments.csv").open("w") as table:
        table.write("# Segments csv created for a benchmark\n# num_ytids\n")
        table.write("# YTID, start_seconds, end_seconds, positive_labels\n")
        for folder in range(_FOLDERS):
            (root / f"media{folder}").mkdir()
        labels = random.choice(_CLASSES, (rows, 3), p=popularity / popularity.sum())
        counts = random.integers(1, 4, rows)
        for row in tqdm(range(rows), desc="make links", unit="row", mininterval=1):
            mids = ",".join(f"/m/{label:05x}" for label in dict.fromkeys(labels[row, : counts[row]].tolist()))
            table.write(f'{row:011d}, 30.000, 40.000, "{mids}"\n')
            os.symlink(f"../{row % _FILES}.mp4", root / f"media{row % _FOLDERS}" / f"{row:011d}_30.mp4")


def listing(root: Path) -> dict[str, Any]:
    """Seconds to list the clips and to draw an epoch's order, and the memory that this takes.

    Args:
        root: Folder with AudioSet's layout.
    """
    before_bytes = _peak_bytes()
    data = ClipDataModule(
        source=AudioSetSource(root=root, train=["unbalanced"]), modalities="audio", clip_s=0.64, multi_label=True
    )
    start = time.perf_counter()
    data.setup("fit")
    result: dict[str, Any] = {"clips": len(data.clips), "list_s": time.perf_counter() - start}
    result |= {"before_bytes": before_bytes, "peak_bytes": _peak_bytes()}
    indices = data.split_indices["train"]
    start = time.perf_counter()
    weights = data.clips.inverse_frequencies(indices)
    orders = {
        "shuffled": Shuffled(indices),
        "shuffled in blocks": ShuffledInBlocks(indices, blocks=indices // 256, together=16),
        "balanced": Balanced(indices, weights=weights, clips=200_000),
    }
    result["weights_s"] = time.perf_counter() - start
    result["orders_s"] = {}
    for name, order in orders.items():
        start = time.perf_counter()
        order(0)
        result["orders_s"][name] = time.perf_counter() - start
    return result


def first_step(root: Path) -> dict[str, float]:
    """Seconds of ``diffmavil fit`` with one training step, from the command to its end, and its memory.

    Args:
        root: Folder with AudioSet's layout.
    """
    (root / "one_step.yaml").write_text(_CONFIG)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "diffmavil", "fit", "--config", "one_step.yaml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - start
    return {"first_step_s": seconds, "first_step_bytes": _peak_bytes(resource.RUSAGE_CHILDREN)}


def _peak_bytes(whose: int = resource.RUSAGE_SELF) -> int:
    """The most memory of this process, or of the largest of those that it started and that have ended."""
    return resource.getrusage(whose).ru_maxrss * 1024


def as_markdown(result: dict[str, Any]) -> str:
    """The page of a measurement."""
    orders = [f"| draw an epoch's order, {name} | {s:.2f} s |" for name, s in result["orders_s"].items()]
    lines = [
        "# A list of many clips",
        "",
        f"`diffmavil bench scale --rows {result['rows']}`: AudioSet's tables with {result['clips']} segments, each "
        f"with a file, which is a link to one of {_FILES}.",
        "",
        "| | |",
        "|---|---|",
        f"| list the clips, find their files, read one | {result['list_s']:.1f} s |",
        f"| most memory of the process, before and after | {result['before_bytes'] / 1e9:.2f} GB, "
        f"{result['peak_bytes'] / 1e9:.2f} GB |",
        f"| weights for balanced draws | {result['weights_s']:.2f} s |",
        *orders,
        f"| `diffmavil fit` with one step and two data workers, from the command to its end | "
        f"{result['first_step_s']:.1f} s |",
        f"| most memory of one of its processes | {result['first_step_bytes'] / 1e9:.2f} GB |",
    ]
    return "\n".join(lines)
