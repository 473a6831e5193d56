"""``diffmavil bench``: what the training step, reading clips and a long list of them cost on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import Final

_BENCHMARKS: Final = ("data", "scale", "gpu")
"""First words: NAME is the function bench_NAME in NAME, whose packages are imported for it alone."""


def bench(args: list[str]) -> None:
    """Run a benchmark.

    Args:
        args: The command line after ``diffmavil bench``: a benchmark and its options, or those of the training step.
    """
    if args and args[0] in _BENCHMARKS:
        name, rest = args[0], args[1:]
    else:
        name, rest = "training", args
    getattr(import_module(f"{__name__}.{name}"), f"bench_{name}")(rest)
