"""Reads every file of ``hostile.make`` and says what came of it; in a process of its own, which a file may not end.

PYTHONPATH=tests python tests/hostile_read.py FOLDER
"""

from __future__ import annotations

import collections
import resource
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import hostile
import numpy as np
import numpy.typing as npt
from media import frames_of

from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import MediaError

WHOLE, SHORTER, OTHER = "as the good file", "its beginning", "with the damage"
TIMEOUT_S = 10.0

Content = tuple[npt.NDArray[np.int16] | None, npt.NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Outcome:
    """What came of reading a file: what it gave or the reason, how long that took, and the memory that it added."""

    what: str
    detail: str
    seconds: float
    added_mib: float


def read(path: Path, times_s: tuple[float, ...]) -> Content:
    """All sound of a file up to the good one's length, and the pictures at some instants, as far as it claims to go."""
    with MediaFile(path, timeout_s=TIMEOUT_S) as media:
        info = media.info
        sound = None if info.audio_s is None else media.audio(0.0, min(info.audio_s[1], hostile.SECONDS), hostile.RATE)
        if info.video_s is None:
            return sound, None
        end_s = info.video_s[1]
        return sound, frames_of(media, [t for t in times_s if t < end_s] or [0.0], short_side=144)


@cache
def _good(path: Path) -> Content:
    return read(path, hostile.TIMES_S)


def compare(content: Content, case: hostile.Case) -> str:
    """Whether a file gave what the good one gives, or its beginning, or something else."""
    if case.like is None:
        return OTHER
    what = WHOLE
    for mine, good, tolerance in zip(content, _good(case.like), (0.25, 0.04), strict=True):
        if (mine is None) != (good is None):
            return OTHER
        if mine is None or good is None:
            continue
        if mine.ndim == 4:
            mine, per_s = np.rot90(mine, -case.turns, axes=(1, 2)), hostile.FPS
        else:
            per_s = hostile.RATE
        shift = int(case.begins_s * per_s)
        mine, good = mine[max(0, -shift) :], good[max(0, shift) :]
        if mine.shape[1:] != good.shape[1:]:
            return OTHER
        length, loud = min(len(mine), len(good)), np.sqrt(np.mean(np.square(good, dtype=np.float32)))
        what = what if len(mine) >= 0.9 * len(good) else SHORTER
        size = 1600 if mine.ndim == 1 else 1
        for begin in range(0, length, size):
            a, b = (x[begin : min(begin + size, length)].astype(np.float32) for x in (mine, good))
            if np.sqrt(np.mean((a - b) ** 2)) > tolerance * loud:
                return OTHER
    return what


def outcome(case: hostile.Case) -> Outcome:
    """Read a file."""
    before, start = _peak_mib(), time.monotonic()
    try:
        what, detail = compare(read(case.path, tuple(case.times_s)), case), ""
    except MediaError as error:
        what, detail = error.reason, error.detail
    return Outcome(what, detail, time.monotonic() - start, _peak_mib() - before)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(cases: list[hostile.Case], outcomes: list[Outcome]) -> str:
    """One row a group, one column an outcome."""
    columns = list(dict.fromkeys([WHOLE, SHORTER, OTHER, *sorted({o.what for o in outcomes})]))
    counts = collections.Counter((case.group, o.what) for case, o in zip(cases, outcomes, strict=True))
    rows = [["", "files", *columns], ["---"] * (len(columns) + 2)]
    for group in dict.fromkeys(case.group for case in cases):
        numbers = [counts[group, column] for column in columns]
        rows.append([group, str(sum(numbers)), *(str(n or "") for n in numbers)])
    totals = [sum(o.what == column for o in outcomes) for column in columns]
    rows.append(["together", str(len(cases)), *map(str, totals)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(folder: Path) -> None:
    cases = hostile.made(folder)
    for good in {case.like for case in cases if case.like is not None}:
        _good(good)
    before = _peak_mib()
    outcomes = []
    for case in cases:
        row = [case.group, ascii(case.path.name)[1:-1], case.must_read, case.like is not None]
        print(*row, sep="\t", end="\t", flush=True)  # the last line tells which file ended the process
        o = outcome(case)
        outcomes.append(o)
        print(o.what, o.detail, f"{o.seconds:.3f}", f"{o.added_mib:.1f}", sep="\t", flush=True)
    seconds = [o.seconds for o in outcomes]
    print(f"\n{table(cases, outcomes)}\n")
    print(f"slowest {max(seconds):.2f} s, all {sum(seconds):.1f} s; ", end="")
    print(f"peak memory {before:.0f} MiB for the good files, {_peak_mib():.0f} MiB with these")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
