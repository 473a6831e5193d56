"""A training epoch in which every fifth file is one of ``hostile.make``.

python tests/hostile_epoch.py FOLDER
"""

from __future__ import annotations

import collections
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hostile

from diffmavil.data import ClipDataModule, FolderSource
from diffmavil.types import Skip

GOOD = ("front.mp4", "end.mp4", "film.mkv", "film.webm", "film.ts", "film.avi")


@dataclass(frozen=True)
class Epoch:
    """What an epoch read: file names of the clips that were asked for, of those in the batches, and the skips."""

    asked: list[str]
    read: list[str]
    skips: list[Skip]
    seconds: float


def mix(folder: Path, cases: Sequence[hostile.Case], good_each: int) -> Path:
    """A folder of links to some cases, and for each of them to some good files."""
    folder.mkdir()
    for number, case in enumerate(cases):
        (folder / f"{number}_hostile{case.path.suffix}").symlink_to(case.path)
        for k in range(good_each):
            name = GOOD[(number * good_each + k) % len(GOOD)]
            (folder / f"{number}_good_{k}_{name}").symlink_to(case.path.parents[1] / "good" / name)
    return folder


def epoch(folder: Path) -> Epoch:
    """Read a folder once, with two workers."""
    data = ClipDataModule(
        source=FolderSource(root=folder),
        batch_size=10,
        num_workers=2,
        clip_s=1.0,
        num_mel_bins=32,
        num_frames=4,
        fps=4.0,
        image_size=64,
    )
    start = time.monotonic()
    data.setup("fit")
    names = [Path(clip.path).name for clip in data.clips]
    read: list[str] = []
    skips: list[Skip] = []
    for batch in data.train_dataloader():
        read += [names[index] for index in batch.index.tolist()]
        skips += batch.skips
    return Epoch(names, read, skips, time.monotonic() - start)


def main(folder: Path) -> None:
    cases = hostile.made(folder)
    mixes = {"good": mix(folder / "plain", cases[:1], 300), "mixed": mix(folder / "mixed", cases, 4)}
    for what, place in mixes.items():
        done = epoch(place)
        named = {skip.path: skip.reason for skip in done.skips}  # one may be tried again in place of another
        reasons = collections.Counter(named.values()).most_common()
        peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{what}: {len(done.asked)} files, {len(done.read)} clips in batches, {len(named)} left out, ", end="")
        print(f"{len(done.read) / done.seconds:.0f} clips/s, workers' peak {peak_mib:.0f} MiB")
        print("  " + ", ".join(f"{count} {reason}" for reason, count in reasons))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
