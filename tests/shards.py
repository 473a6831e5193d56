"""Folders of shards for the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from diffmavil.data.audit import Audit
from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.errors import MediaError
from diffmavil.data.manifest import ManifestSource
from diffmavil.data.media import TIMEOUT_S, Media
from diffmavil.data.shards.encode import encode_clip
from diffmavil.data.shards.index import write_index
from diffmavil.data.shards.layout import INDEX_FOLDER, Stored
from diffmavil.data.shards.sidecar import Rejection, Sidecar
from diffmavil.data.shards.writer import ShardWriter
from diffmavil.types import Modalities

ROOT = Path(__file__).resolve().parents[1]
LENIENT = Audit(min_clip_s=0.0, max_clip_s=None, silence_dbfs=None, still_levels=None, apart_s=None)


def write_shards(
    source: ClipSource,
    out: Path,
    *,
    modalities: Modalities = "audio_video",
    stored: Stored | None = None,
    audit: Audit = LENIENT,
    clips_per_shard: int = 3,
) -> Path:
    """What ``diffmavil prepare`` writes, but for its tables, without other processes."""
    stored = stored or Stored()
    clips = list(source.clips())
    classes = source.class_names() or sorted({label for clip in clips for label in clip.labels})
    sidecars: list[Sidecar] = []
    out.mkdir(parents=True, exist_ok=True)
    for begin in range(0, len(clips), clips_per_shard):
        writer = ShardWriter(out, begin // clips_per_shard)
        for position, clip in enumerate(clips[begin : begin + clips_per_shard], begin):
            try:
                with source.open(clip) as media:
                    writer.add(position, encode_clip(clip, media, modalities, stored, audit))
            except MediaError as error:
                writer.reject(Rejection(position, clip.path, clip.start_s, clip.end_s, error.reason, error.detail))
        sidecars.append(writer.finish())
    settings: dict[str, Any] = {"stored": {"fps": stored.fps, "sample_rate_hz": stored.sample_rate_hz}}
    write_index(out / INDEX_FOLDER, sidecars, classes=classes, settings=settings)
    return out


def command(*args: str | Path) -> subprocess.Popen[str]:
    """Start ``diffmavil`` with some arguments; it finds the modules of this folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "diffmavil", *map(str, args)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its workers with it, so that a test can see whether any is left
        preexec_fn=_let_ctrl_c_through,
    )


def _let_ctrl_c_through() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite that runs in a shell's background ignores it


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Waiting(ManifestSource):
    """A manifest of which one clip makes its reader wait, so that a run of one worker does not come to its end.

    Args:
        path: The manifest.
        label_column: Its column of labels.
        at: The clip's path in the manifest.
    """

    def __init__(self, *, path: Path, label_column: str, at: str) -> None:
        super().__init__(path=path, label_column=label_column)
        self.at = str(self.media_root / at)

    def open(self, clip: Clip, *, timeout_s: float = TIMEOUT_S) -> Media:
        if clip.path == self.at:
            time.sleep(1000)
        return super().open(clip, timeout_s=timeout_s)


class Trouble(ClipSource):
    """A folder of which some files make their reader hang, die or fail, as their names say.

    Args:
        root: The folder.
    """

    def __init__(self, *, root: Path) -> None:
        self.root = root

    def clips(self) -> list[Clip]:
        return [Clip(str(path), labels=(path.stem[0],)) for path in sorted(self.root.iterdir())]

    def open(self, clip: Clip, *, timeout_s: float = TIMEOUT_S) -> Media:
        name = Path(clip.path).stem
        if "hang" in name:
            time.sleep(1000)
        if "crash" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "raise" in name:
            raise ArithmeticError("seven is\nno number")
        return super().open(clip, timeout_s=timeout_s)
