"""Memory that a training step needs for each clip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from diffmavil.modules import PretrainModule
from diffmavil.types import Batch

CLIPS = 1, 3
"""Two batches whose difference is what a clip adds: what is not a clip's (tables) is in both."""


def saved_bytes_per_clip(
    module: PretrainModule, audio_size: tuple[int, int], video_size: tuple[int, int, int]
) -> float:
    """Bytes that autograd keeps of one clip between the network's forward and backward pass.

    Measured on clips of noise, on the module's device.

    Args:
        module: The module, at the mask ratios in force.
        audio_size: Spectrogram frames and mel bins.
        video_size: Frames, height and width (pixels).
    """
    with torch.random.fork_rng():
        few, many = (_saved_bytes(module, clips, audio_size, video_size) for clips in CLIPS)
    return (many - few) / (CLIPS[1] - CLIPS[0])


def noise_batch(
    clips: int, audio_size: tuple[int, int], video_size: tuple[int, int, int], device: torch.device
) -> Batch:
    """Clips of noise, none of them padded."""
    return Batch(
        index=torch.arange(clips, device=device),
        audio=torch.randn(clips, 1, *audio_size, device=device),
        video=torch.randn(clips, 3, *video_size, device=device),
    )


def _saved_bytes(
    module: PretrainModule, clips: int, audio_size: tuple[int, int], video_size: tuple[int, int, int]
) -> int:
    batch = noise_batch(clips, audio_size, video_size, module.device)
    halved, module.halved = module.halved, False  # a batch of one clip has no halves
    try:
        return saved_bytes(lambda: module(batch), module)
    finally:
        module.halved = halved


def saved_bytes(forward: Callable[[], object], module: nn.Module) -> int:
    """Bytes that autograd keeps of a forward pass for the backward pass, the weights left out.

    Args:
        forward: Runs the pass once, and returns what holds its graph.
        module: Whose weights are left out.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, Tensor] = {}  # by address; the tensors too, so that no address is given out twice

    def keep(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # a node that holds its own output, gradient function and all, is never freed
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    size = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)
    del output
    return size
