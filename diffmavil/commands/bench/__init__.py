"""``diffmavil bench``: what the training step, reading clips and a long list of them cost on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from diffmavil.commands.bench.options import BenchOptions, read_options
from diffmavil.commands.bench.settings import DataSettings, GpuSettings, ScaleSettings, Settings

_BENCHMARKS: Final = {"data": DataSettings, "scale": ScaleSettings, "gpu": GpuSettings}
"""First words and their options: NAME is the function bench_NAME in NAME, whose packages are imported for it alone."""


def bench(args: list[str]) -> None:
    """Run a benchmark.

    Args:
        args: The command line after ``diffmavil bench``: a benchmark, its options (the fields of its settings) or those
            of the training step, ``--json``, and ``--out FILE``, where to write the page.

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ValueError: If a value is out of its range.
    """
    name = args[0] if args and args[0] in _BENCHMARKS else None
    options: BenchOptions[Any] = (
        read_options("diffmavil bench", Settings, args)
        if name is None
        else read_options(f"diffmavil bench {name}", _BENCHMARKS[name], args[1:])
    )
    name = name or "training"
    getattr(import_module(f"{__name__}.{name}"), f"bench_{name}")(options)
