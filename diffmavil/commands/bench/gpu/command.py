"""``diffmavil bench gpu``: everything that only a GPU can show, part by part."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from diffmavil.commands.bench.gpu.page import as_markdown
from diffmavil.commands.bench.gpu.runner import run_parts
from diffmavil.commands.bench.options import BenchOptions
from diffmavil.commands.bench.settings import GpuSettings

_PAGES: Final = Path("docs/benchmarks")


def bench_gpu(options: BenchOptions[GpuSettings]) -> None:
    """Measure part by part, and write the page and the figures after each; one that fails keeps no other from running.

    Args:
        options: The command line.


    Raises:
        ValueError: If a value is out of its range, or there is no CUDA device and none but that was asked for.
        SystemExit: With 1, if a part failed.
    """
    settings = options.settings
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("bench gpu needs a CUDA device, got none; a rehearsal on a CPU: --device cpu --size nano")
    out = options.out or _default_page(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"command": options.command, "settings": asdict(settings), "parts": {}}

    def tell(parts: dict[str, dict[str, Any]]) -> None:
        result["parts"] = parts
        name, part = list(parts.items())[-1]
        error = f": {part['error']['line']}" if "error" in part else ""
        print(f"{name}: {part['state']}, {part['seconds']:.0f} s{error}", file=sys.stderr, flush=True)
        out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        out.write_text(as_markdown(result) + "\n")

    with tempfile.TemporaryDirectory(prefix="diffmavil-bench-") as folder:
        parts = run_parts(settings, Path(folder), tell)
    print(json.dumps(result, indent=2) if options.as_json else f"written: {out} and {out.with_suffix('.json').name}")
    if failed := [name for name, part in parts.items() if part["state"] != "ok"]:
        print(f"diffmavil: failed or not run: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


def _default_page(settings: GpuSettings) -> Path:
    """A page that is named after the device, among the others where there are some."""
    device = torch.cuda.get_device_name() if settings.device == "cuda" else "rehearsed_on_a_cpu"
    name = f"gpu_{re.sub(r'[^a-z0-9]+', '_', device.lower()).strip('_')}.md"
    return _PAGES / name if _PAGES.is_dir() else Path(name)
