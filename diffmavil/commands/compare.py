"""``diffmavil compare``: what one training saves against another, planned or measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jsonargparse import ArgumentParser

from diffmavil.checks import check_number
from diffmavil.commands.configs import find_config


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training costs for each clip.

    Args:
        flops: Training FLOPs by part.
        seconds: Wall clock of a training step on one process, waiting for data included; ``None`` where not measured.
        peak_memory_bytes: Most memory held at once, by one process; ``None`` where not measured.
        metrics: Losses and scores, of a run.
    """

    flops: dict[str, float]
    seconds: float | None = None
    peak_memory_bytes: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)


def compare(args: list[str]) -> None:
    """Print what each other training saves against A: FLOPs by part, and of runs wall clock, memory, losses and scores.

    Args:
        args: The command line after ``diffmavil compare``.

    Raises:
        ArgumentError: If an argument is missing, unknown or of the wrong type.
        ValueError: If some are configs and others runs, or a run holds no figures.
    """
    parser = ArgumentParser(
        prog="diffmavil compare",
        description="Print what other trainings save against a first one: FLOPs by part; of runs also wall clock and "
        "memory as measured, and their losses and scores.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("a", help="what to compare with: a config (planned), or the folder of a run (measured)")
    parser.add_argument("b", nargs="+", help="what is to save, one or several; of the same kind as A")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--num_frames", type=int | None, help="frames of video, in place of both configs' data.num_frames"
    )
    parser.add_argument(
        "--num_views", type=int | None, help="views encoded of each clip (2 where intra_weight is above 0)"
    )
    options = parser.parse_args(args)
    names, num_frames, num_views = [options.a, *options.b], options.num_frames, options.num_views
    runs = [Path(name).is_dir() for name in names]
    if any(runs) != all(runs):
        raise ValueError(f"all must be configs or all must be folders of runs, got {' and '.join(names)}")
    if runs[0] and (num_frames is not None or num_views is not None):
        raise ValueError("num_frames and num_views are for configs, got folders of runs")
    check_number("num_frames", num_frames, at_least=1, limit=10_000, optional=True)
    check_number("num_views", num_views, at_least=1, at_most=2, optional=True)
    costs = [measured(Path(name)) if runs[0] else planned(name, num_frames, num_views) for name in names]
    results = [reductions(costs[0], cost) for cost in costs[1:]]
    if options.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        print(as_text(results, names))


def planned(name: str, num_frames: int | None = None, num_views: int | None = None) -> Cost:
    """Cost of a clip by a config, mean over the run."""
    from diffmavil.commands.plan import mean_flops, plan, planning_parser
    from diffmavil.flops import TRAINING_FACTOR

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
    """Cost of a clip in a run, and its losses and scores.

    Args:
        folder: Folder of the run, or the one that it was told to write to (the newest run in it).

    Raises:
        RunFolderError: If there is no run.
        ValueError: If it has no figures, or no step was counted.
    """
    from diffmavil.commands.run_figures import figures_of  # all of torch, which --help need not wait for

    run = figures_of(folder)
    return Cost(flops=run.flops, seconds=run.seconds, peak_memory_bytes=run.peak_memory_bytes, metrics=run.metrics)


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
        "metrics": {
            name: [a.metrics.get(name), b.metrics.get(name)] for name in dict.fromkeys([*a.metrics, *b.metrics])
        },
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


def as_text(results: list[dict[str, Any]], names: list[str]) -> str:
    """The figures as a table: a column for each training, and for all but the first one what it saves.

    Args:
        results: What each of the others saves against the first.
        names: All of them.
    """
    letters = [chr(ord("A") + number) if number < 26 else str(number + 1) for number in range(len(names))]
    saved = [f"{letter} saves" for letter in letters[1:]]
    metrics = dict.fromkeys(name for result in results for name in result["metrics"])
    width = max([28, *(len(name) + 2 for name in metrics)])
    lines = [f"{letter}: {name}" for letter, name in zip(letters, names, strict=True)]
    lines += ["", f"{'per clip':<{width}}" + "".join(f"{title:>13}" for title in [*letters, *saved])]

    def line(name: str, pairs: list[list[float | None]], shares: list[float | None], scale: float = 1.0) -> None:
        values = [pairs[0][0], *(pair[1] for pair in pairs)]
        texts = ["not measured" if value is None else f"{value * scale:.4g}" for value in values]
        texts += ["" if share is None else f"{share:.1%}" for share in shares]
        lines.append((f"{name:<{width}}" + "".join(f"{text:>13}" for text in texts)).rstrip())

    for part in dict.fromkeys(part for result in results for part in result["by_part"]):
        entries = [result["by_part"].get(part, _NO_PART) for result in results]
        shares = [entry["flops_reduction"] for entry in entries]
        line(f"  {part.replace('_', ' ')}, GFLOPs", [entry["training_gflops_per_clip"] for entry in entries], shares)
    for name, key, share, scale in _ROWS:
        line(name, [result[key] for result in results], [result[share] for result in results], scale)
    if metrics:
        lines += ["", "losses and scores"]
    for name in metrics:
        line(f"  {name}", [result["metrics"].get(name, [None, None]) for result in results], [])
    return "\n".join(lines)


_NO_PART: Final[dict[str, Any]] = {"training_gflops_per_clip": [0.0, 0.0], "flops_reduction": None}

_ROWS: Final = (
    ("training, GFLOPs", "training_gflops_per_clip", "flops_reduction", 1.0),
    ("wall clock, ms", "seconds_per_clip", "wall_clock_reduction", 1e3),
    ("peak memory, MiB", "peak_memory_bytes", "peak_memory_reduction", 2**-20),
)
