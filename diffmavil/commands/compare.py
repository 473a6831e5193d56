"""``diffmavil compare``: what one training saves against another, planned or measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from diffmavil.checks import check_number
from diffmavil.commands.compute_file import read_compute
from diffmavil.commands.configs import find_config
from diffmavil.commands.plan import mean_flops, plan, planning_parser
from diffmavil.flops import TRAINING_FACTOR
from diffmavil.run_folder import COMPUTE, find_run


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training costs for each clip.

    Args:
        flops: Training FLOPs by part.
        seconds: Wall clock of a training step on one process, waiting for data included; ``None`` where not measured.
        peak_memory_bytes: Most memory held at once, by one process; ``None`` where not measured.
    """

    flops: dict[str, float]
    seconds: float | None = None
    peak_memory_bytes: float | None = None


def compare(args: list[str]) -> None:
    """Print what B saves against A: FLOPs by part, and of two runs the wall clock and the memory as well.

    Args:
        args: The command line after ``diffmavil compare``.

    Raises:
        ArgumentError: If an argument is missing, unknown or of the wrong type.
        ValueError: If one is a config and the other a run, or a run holds no figures.
    """
    parser = ArgumentParser(prog="diffmavil compare", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("a", help="what to compare with: a config (planned), or the folder of a run (measured)")
    parser.add_argument("b", help="what is to save; of the same kind as A")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--num_frames", type=int | None, help="frames of video, in place of both configs' data.num_frames"
    )
    parser.add_argument(
        "--num_views", type=int | None, help="views encoded of each clip (2 where intra_weight is above 0)"
    )
    options = parser.parse_args(args)
    a, b, num_frames, num_views = options.a, options.b, options.num_frames, options.num_views
    runs = [Path(name).is_dir() for name in (a, b)]
    if runs[0] != runs[1]:
        raise ValueError(f"A and B must both be configs or both be folders of runs, got {a} and {b}")
    if runs[0] and (num_frames is not None or num_views is not None):
        raise ValueError("num_frames and num_views are for configs, got folders of runs")
    check_number("num_frames", num_frames, at_least=1, limit=10_000, optional=True)
    check_number("num_views", num_views, at_least=1, at_most=2, optional=True)
    first, second = (measured(Path(name)) if runs[0] else planned(name, num_frames, num_views) for name in (a, b))
    result = reductions(first, second)
    print(json.dumps(result, indent=2) if options.json else as_text(result, a, b))


def planned(name: str, num_frames: int | None = None, num_views: int | None = None) -> Cost:
    """Cost of a clip by a config, mean over the run."""
    parser = planning_parser("diffmavil compare")
    args = ["--config", find_config(name)]
    if num_frames is not None:
        args += ["--data.num_frames", str(num_frames)]
    if num_views is not None:
        args += ["--model.intra_weight", "0.01" if num_views == 2 else "0"]
    epochs = plan(parser, parser.parse_args(args))
    flops = mean_flops([epoch.forward_flops for epoch in epochs])
    return Cost(flops={part: TRAINING_FACTOR * value for part, value in flops.items()})


def measured(folder: Path) -> Cost:
    """Cost of a clip in a run, from its ``compute.json``.

    Args:
        folder: Folder of the run, or the one that it was told to write to (the newest run in it).

    Raises:
        RunFolderError: If there is no run.
        ValueError: If it has no such file, or no step was counted.
    """
    path = find_run(folder) / COMPUTE
    if not path.is_file():
        rule = f"must hold {COMPUTE} (the callback ComputeAccounting writes it)"
        raise ValueError(f"a run {rule}, found none in {folder}")
    compute = read_compute(path)
    clips = compute["clips"]
    if not clips:
        raise ValueError(f"a run must have trained on a clip to be compared, got none in {path}")
    flops: dict[str, float] = {}
    for epoch in compute["epochs"]:
        for part, value in epoch["flops"].items():
            flops[part] = flops.get(part, 0.0) + value / clips
    return Cost(
        flops=flops,
        seconds=(compute["data_s"] + compute["step_s"]) / clips,
        peak_memory_bytes=float(compute["peak_memory_bytes"]),
    )


def reductions(a: Cost, b: Cost) -> dict[str, Any]:
    """What B saves against A, as fractions; ``None`` where it was not measured."""
    totals = sum(a.flops.values(), 0.0), sum(b.flops.values(), 0.0)
    return {
        "flops_reduction": _saved(*totals),
        "wall_clock_reduction": _saved(a.seconds, b.seconds),
        "peak_memory_reduction": _saved(a.peak_memory_bytes, b.peak_memory_bytes),
        "training_gflops_per_clip": [total / 1e9 for total in totals],
        "seconds_per_clip": [a.seconds, b.seconds],
        "peak_memory_bytes": [a.peak_memory_bytes, b.peak_memory_bytes],
        "by_part": {
            part: {
                "training_gflops_per_clip": [a.flops.get(part, 0.0) / 1e9, b.flops.get(part, 0.0) / 1e9],
                "flops_reduction": _saved(a.flops.get(part, 0.0), b.flops.get(part, 0.0)),
            }
            for part in dict.fromkeys([*a.flops, *b.flops])
        },
    }


def _saved(a: float | None, b: float | None) -> float | None:
    return None if not a or b is None else 1 - b / a


def as_text(result: dict[str, Any], a: str, b: str) -> str:
    """The figures as a table."""
    lines = [f"A: {a}", f"B: {b}", "", f"{'per clip':<28}{'A':>12}{'B':>12}{'saved':>10}"]

    def line(name: str, pair: list[float | None], saved: float | None, scale: float = 1.0) -> None:
        values = ["not measured" if value is None else f"{value * scale:.4g}" for value in pair]
        percent = "" if saved is None else f"{saved:.1%}"
        lines.append(f"{name:<28}{values[0]:>12} {values[1]:>12}{percent:>10}")

    for part, entry in result["by_part"].items():
        line(f"  {part.replace('_', ' ')}, GFLOPs", entry["training_gflops_per_clip"], entry["flops_reduction"])
    line("training, GFLOPs", result["training_gflops_per_clip"], result["flops_reduction"])
    line("wall clock, ms", result["seconds_per_clip"], result["wall_clock_reduction"], 1e3)
    line("peak memory, MiB", result["peak_memory_bytes"], result["peak_memory_reduction"], 2**-20)
    return "\n".join(lines)
