"""Mean and standard deviation of a data set's log-mel values, for ``audio_mean`` and ``audio_std``."""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

from diffmavil.data.datamodule import ClipDataModule


def stats(args: list[str]) -> None:
    """Measure the mean and standard deviation of a data set's log-mel values, and print them for a config.

    Args:
        args: The command line after ``diffmavil stats``: the config of a training, of which only ``data`` is read.

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ValueError: If there is no sound to measure.
    """
    parser = ArgumentParser(prog="diffmavil stats", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a config of a training, or the name of a packaged one")
    parser.add_class_arguments(ClipDataModule, "data")
    left_aside = ("model", "trainer", "seed_everything", "ckpt_path")
    for name in left_aside:
        parser.add_argument(f"--{name}", type=Any, help="left aside")
    config = parser.parse_args(args)
    for name in left_aside:
        config.pop(name)
    measure(parser.instantiate(config).data)


def measure(datamodule: ClipDataModule) -> tuple[float, float]:
    """Measure the statistics over the real frames of the train split's centred windows, and print them.

    Args:
        datamodule: The data; what it holds as mean and standard deviation so far has no influence.

    Returns:
        Mean and standard deviation.

    Raises:
        ValueError: If the data module reads no sound, or if the train split has none that can be read.
    """
    if datamodule.modalities == "video":
        raise ValueError("modalities must contain audio to measure its statistics, got video")
    datamodule.setup("fit")
    loader = datamodule.eval_dataloader(datamodule.split_indices["train"], modalities="audio")
    count, total, squares = 0, 0.0, 0.0
    for raw in tqdm(loader, desc="stats", unit="batch"):
        raw = datamodule.on_before_batch_transfer(raw, 0)
        if raw.waveform is None:
            continue
        values, frames = datamodule.audio_transform.features(raw.waveform, raw.num_samples)
        real = values[torch.arange(values.shape[1]) < frames[:, None]].double()
        count += real.numel()
        total += float(real.sum())
        squares += float(real.square().sum())
    if count == 0:
        raise ValueError("the train split must have sound that can be read, got none")
    mean = total / count
    std = max(0.0, squares / count - mean**2) ** 0.5
    datamodule.teardown()
    print(f"audio_mean: {mean:.4f}\naudio_std: {std:.4f}")
    return mean, std
