"""Mean and standard deviation of a data set's log-mel values, for ``audio_mean`` and ``audio_std``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Final

import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

from diffmavil.data.atomic import whole_file
from diffmavil.data.datamodule import ClipDataModule
from diffmavil.data.errors import SILENT
from diffmavil.types import Skip

_LIST_HEADER: Final = "path,reason,detail"
_HEADER: Final = "# Measured by diffmavil stats; give it after the config: fit --config C.yaml --config "

_MOST_SHOWN: Final = 10
"""Clips that are named in the terminal where no file lists them."""


def stats(args: list[str]) -> None:
    """Measure the mean and standard deviation of a data set's log-mel values, and print them for a config.

    Args:
        args: The command line after ``diffmavil stats``: the config of a training, of which only ``data`` is read, and
            the file to write.

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ValueError: If there is no sound to measure, or the file to write is one of somebody else's.
        OSError: If it cannot be written; this is found out before anything is measured.
    """
    parser = ArgumentParser(prog="diffmavil stats", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a config of a training, or the name of a packaged one")
    parser.add_class_arguments(ClipDataModule, "data")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="a YAML file to write, for fit --config C.yaml --config OUT"
    )
    left_aside = ("model", "trainer", "seed_everything", "ckpt_path")
    for name in left_aside:
        parser.add_argument(f"--{name}", type=Any, help="left aside")
    config = parser.parse_args(args)
    for name in left_aside:
        config.pop(name)
    out = config.pop("out")
    measure(parser.instantiate(config).data, out)


def measure(datamodule: ClipDataModule, out: Path | None = None) -> tuple[float, float]:
    """Measure the statistics over the real frames of the train split's centred windows, and print them.

    Left out are the clips that a training would skip, but for those of which only damaged pictures are the reason:
    pictures are not decoded for this. So are windows of digital silence, whose log-mel values are those of no sound.
    What is left out is counted in a line and listed, in ``OUT_left_out.csv`` beside the file.

    Args:
        datamodule: The data; what it holds as mean and standard deviation so far has no influence.
        out: File to write them into, as keys of a config.

    Returns:
        Mean and standard deviation.

    Raises:
        ValueError: If the data module reads no sound, if the train split has none that can be read, or if ``out`` is
            a file that this command did not write.
        OSError: If it cannot be written.
    """
    if datamodule.modalities == "video":
        raise ValueError("modalities must contain audio to measure its statistics, got video")
    with nullcontext() if out is None else _results(out) as file:
        datamodule.setup("fit")
        mean, std = _measured(datamodule)
        text = f"audio_mean: {mean:.4f}\naudio_std: {std:.4f}"
        if file is not None and out is not None:
            file.write(f"{_HEADER}{out.name}\ndata:\n  audio_mean: {mean!r}\n  audio_std: {std!r}\n".encode())
    _say_what_was_left_out(datamodule, out)
    print(text)
    return mean, std


def _measured(datamodule: ClipDataModule) -> tuple[float, float]:
    indices = datamodule.split_indices["train"]
    count, total, squares = 0, 0.0, 0.0
    for raw in tqdm(datamodule.eval_dataloader(indices, modalities="audio"), desc="stats", unit="batch"):
        silent = raw.silent
        raw = datamodule.on_before_batch_transfer(raw, 0)
        if raw.waveform is None or silent is None:
            continue
        for index in raw.index[silent].tolist():
            datamodule.skipped.add(Skip(index, datamodule.clips[index].path, SILENT, "no sample differs"))
        values, frames = datamodule.audio_transform.features(raw.waveform, raw.num_samples)
        is_real = (torch.arange(values.shape[1]) < frames[:, None]) & ~silent[:, None]
        real = values[is_real].double()
        count += real.numel()
        total += float(real.sum())
        squares += float(real.square().sum())
    if count == 0:
        reasons = datamodule.skipped.summary(len(indices), "left out")
        raise ValueError(f"the train split must have sound that can be read, got none; {reasons}")
    mean = total / count
    return mean, max(0.0, squares / count - mean**2) ** 0.5


@contextmanager
def _results(out: Path) -> Iterator[IO[bytes]]:
    """The file to write; begun before the measuring, which would be lost if it could not be."""
    if not out.parent.is_dir():
        raise ValueError(f"out must be in a folder that exists, got {out}")
    for path, head in ((out, _HEADER), (_list_of(out), _LIST_HEADER)):
        if os.path.lexists(path) and not _begins_with(path, head):
            raise ValueError(f"out must be a new file or one that diffmavil stats wrote, got {path}")
    with whole_file(out) as file:
        yield file


def _list_of(out: Path) -> Path:
    """Where the clips that were left out are listed."""
    return out.with_name(f"{out.stem}_left_out.csv")


def _begins_with(path: Path, head: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(head)) == head.encode()


def _say_what_was_left_out(datamodule: ClipDataModule, out: Path | None) -> None:
    skipped = datamodule.skipped
    line = skipped.summary(len(datamodule.split_indices["train"]), "left out")
    if out is not None:
        listed = _list_of(out)
        skipped.write(listed)
        line += f"; listed in {listed}"
    if not skipped:
        return
    print(line, file=sys.stderr)
    if out is None:
        first = [skip for _, skip in sorted(skipped.by_index.items())]
        for skip in first[:_MOST_SHOWN]:
            print(f"  {skip.path}: {skip.reason}" + f" ({skip.detail})" * bool(skip.detail), file=sys.stderr)
        if len(first) > _MOST_SHOWN:
            print(f"  and {len(first) - _MOST_SHOWN} more; --out FILE lists all of them beside it", file=sys.stderr)
