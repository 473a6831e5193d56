"""Whether the data's window is a whole number of the model's patches, before a clip is opened."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm

from torch import nn

from diffmavil.data import ClipDataModule
from diffmavil.nn import Encoder


def require_whole_patches(module: nn.Module, data: ClipDataModule) -> None:
    """Refuse a window that cannot be cut into patches.

    Args:
        module: What is to read the data.
        data: The data.

    Raises:
        ValueError: If so, naming the key and the nearest values that work.
    """
    for name, part in module.named_modules():
        stream = name.rpartition(".")[2].removesuffix("_encoder")
        if isinstance(part, Encoder) and stream in ("audio", "video") and stream in data.modalities:
            for fault in _faults(stream, part.patch_size, data):
                raise ValueError(fault)


def _faults(stream: str, patch_size: tuple[int, ...], data: ClipDataModule) -> Iterator[str]:
    if stream == "audio" and len(patch_size) == 2:
        frames, bins = data.audio_size
        shift_s = data.audio_transform.frame_shift_ms / 1000
        if frames % patch_size[0]:
            near = " or ".join(f"{count * shift_s:g}" for count in _near(frames, patch_size[0]))
            yield (
                f"data.clip_s must give a multiple of {patch_size[0]} spectrogram frames, the length of a patch, "
                f"such as {near}, got {data.audio_transform.clip_s:g} ({frames} frames of {shift_s * 1000:g} ms)"
            )
        if bins % patch_size[1]:
            yield _multiple("num_mel_bins", bins, patch_size[1])
    if stream == "video" and len(patch_size) == 3:
        if data.num_frames % patch_size[0]:
            yield _multiple("num_frames", data.num_frames, patch_size[0])
        if data.image_size % (side := lcm(*patch_size[1:])):
            yield _multiple("image_size", data.image_size, side)


def _multiple(name: str, value: int, step: int) -> str:
    near = " or ".join(map(str, _near(value, step)))
    return f"data.{name} must be a multiple of {step}, the side of a patch, such as {near}, got {value}"


def _near(value: int, step: int) -> list[int]:
    below = value // step * step
    return [count for count in (below, below + step) if count]
