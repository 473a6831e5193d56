"""Runs the parts one after the other, each in a process of its own and for a bounded time.

What a part does to the device or to its process, a fault of the device, memory that is not given back, a hang, ends
with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from diffmavil.commands.bench.gpu import device, falling_loss, kernels, recipes, suite, whole_path
from diffmavil.commands.bench.gpu.job import Job
from diffmavil.commands.bench.settings import GpuSettings

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the page.

    Args:
        measure: Does its work.
        limit_s: Seconds that it may take at most.
        least_s: Seconds that the parts before leave for it.
    """

    measure: Callable[[Job], None]
    limit_s: float
    least_s: float


PARTS: Final = {
    "device": Part(measure=device.measure, limit_s=45.0, least_s=20.0),
    "tests": Part(measure=suite.measure, limit_s=130.0, least_s=50.0),
    "recipes": Part(measure=recipes.measure, limit_s=170.0, least_s=60.0),
    "profile": Part(measure=kernels.measure, limit_s=50.0, least_s=25.0),
    "path": Part(measure=whole_path.measure, limit_s=90.0, least_s=50.0),
    "training": Part(measure=falling_loss.measure, limit_s=180.0, least_s=60.0),
}
"""The parts by name, in order. The longest training, 120 s, fits where the parts before take no longer than usual."""

_TAIL: Final = 30
"""Lines of a failed part's traceback and of what it printed that go to the page."""


def run_parts(settings: GpuSettings, folder: Path, tell: Callable[[dict[str, Figures]], None]) -> dict[str, Figures]:
    """Run the parts that are wanted.

    Args:
        settings: What to measure.
        folder: Empty folder for what the parts leave.
        tell: Is given the results so far, by part, after every part.

    Returns:
        Of each part its ``state`` (ok, failed or not run), ``seconds`` and ``figures``, and the ``error`` of one that
        failed.
    """
    results: dict[str, Figures] = {}
    end = time.monotonic() + 60 * settings.minutes
    wanted = [name for name in PARTS if name in settings.parts]
    for k, name in enumerate(wanted):
        share = 60 * settings.minutes / 480  # the bounds are those of eight minutes
        kept_s = share * sum(PARTS[later].least_s for later in wanted[k + 1 :])
        limit_s = min(max(share, 1.0) * PARTS[name].limit_s, end - kept_s - time.monotonic())
        if limit_s < 1:
            error = {"line": f"no time was left of {settings.minutes:g} minutes", "tail": ""}
            results[name] = {"state": "not run", "seconds": 0.0, "figures": {}, "error": error}
        else:
            found = {done: result["figures"] for done, result in results.items()}
            results[name] = _run(name, settings, found, folder, limit_s)
        tell(results)
    return results


def _run(name: str, settings: GpuSettings, found: dict[str, Figures], folder: Path, limit_s: float) -> Figures:
    """Run a part in a process of its own, and end that and all that it started."""
    # A process that has looked at a GPU must not be forked; without one, forking from a server with all imported is
    # several times as quick.
    context: Any = multiprocessing.get_context("spawn" if settings.device == "cuda" else "forkserver")
    if settings.device != "cuda":
        context.set_forkserver_preload([__name__])
    usual = multiprocessing.get_start_method()
    log = folder / f"{name}.log"
    begin = time.monotonic()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, settings, found, folder, begin, limit_s, log, sender, usual))
    process.start()
    sender.close()
    figures: Figures = {}
    failed: tuple[str, str] | None = (f"ended at its bound of {limit_s:.0f} s", "")
    try:
        while receiver.poll(max(0.0, begin + limit_s - time.monotonic())):
            try:
                what, content = receiver.recv()
            except EOFError:
                process.join(5)
                failed = (f"its process ended with exit code {process.exitcode}", "")
                break
            if what == "figures":
                figures |= content
            else:
                failed = content
                break
    finally:
        _end(process)
    result: Figures = {
        "state": "ok" if failed is None else "failed",
        "seconds": time.monotonic() - begin,
        "figures": figures,
    }
    if failed is not None:
        printed = log.read_text(errors="replace").splitlines() if log.is_file() else []
        tail = [*failed[1].splitlines()[-_TAIL:], *printed[-_TAIL:]]
        result["error"] = {"line": failed[0], "tail": "\n".join(tail)}
    return result


def _end(process: Any) -> None:
    """End a part's process, after a moment for it to end by itself, and whatever it has started."""
    process.join(1)
    for_all = getattr(os, "killpg", None)
    with suppress(ProcessLookupError, PermissionError):
        if for_all is not None:
            for_all(process.pid, signal.SIGKILL)  # it leads a group of its own
    if process.is_alive():
        process.kill()
    process.join()


def _work(
    name: str,
    settings: GpuSettings,
    found: dict[str, Figures],
    folder: Path,
    begin: float,
    limit_s: float,
    log: Path,
    sender: Connection,
    start_method: str,
) -> None:
    """Do a part's work, in its process; data workers start as they would without all this."""
    multiprocessing.set_start_method(start_method, force=True)
    if hasattr(os, "setsid"):
        os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        PARTS[name].measure(
            Job(
                settings=settings,
                found=found,
                folder=folder,
                begin=begin,
                limit_s=limit_s,
                keep=lambda figures: sender.send(("figures", figures)),
            )
        )
    except BaseException as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())[:480]
        sender.send(("failed", (line, traceback.format_exc())))
    else:
        sender.send(("done", None))
