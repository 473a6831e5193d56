"""Whether the data hold the streams that a module reads, before a clip is opened; what to do where clips lack one."""

from __future__ import annotations

from typing import Final

from torch import nn

from diffmavil.data import ClipDataModule
from diffmavil.modules import FineTuneModule, LinearProbe, PretrainModule
from diffmavil.nn import Encoder

_PRETRAINING: Final = "pretraining on one stream is not there yet"


def require_streams(module: nn.Module, data: ClipDataModule, command: str) -> None:
    """Refuse data without a stream that a module reads.

    Args:
        module: What is to read the data. ``predict`` of a pretraining gives the features of whatever there is.
        data: The data.
        command: fit, validate, test or predict.

    Raises:
        ValueError: If so, naming the key and what it must be.
    """
    streams = [stream for stream in ("audio", "video") if _reads(module, stream)]
    if all(stream in data.modalities for stream in streams):
        return
    rule = f"data.modalities must be {'_'.join(streams)}"
    if isinstance(module, PretrainModule) and command != "predict":
        raise ValueError(f"{rule} in pretraining, got {data.modalities}: {_PRETRAINING}")
    if isinstance(module, (FineTuneModule, LinearProbe)):
        raise ValueError(f"{rule}, which the model reads (model.modalities), got {data.modalities}")


def _reads(module: nn.Module, stream: str) -> bool:
    return any(
        isinstance(part, Encoder) and name.rpartition(".")[2] == f"{stream}_encoder"
        for name, part in module.named_modules()
    )


def one_stream_advice(module: nn.Module, stream: str, command: str) -> str:
    """What to do where the clips have one stream alone.

    Args:
        module: What was to read them.
        stream: The stream that they have.
        command: fit, validate, test or predict.
    """
    if isinstance(module, PretrainModule) and command != "predict":
        return f"pretraining needs clips with audio and video: {_PRETRAINING}"
    if isinstance(module, (FineTuneModule, LinearProbe)):
        return f"to read {stream} alone, set data.modalities and model.modalities to {stream}"
    return f"to read {stream} alone, set data.modalities to {stream}"
