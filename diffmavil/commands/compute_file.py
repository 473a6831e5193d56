"""What a run wrote of what it computed: ``compute.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffmavil.checks import check_number
from diffmavil.data.json_files import read_json_object

_TOTALS: Final = (
    "clips",
    "steps",
    "training_flops",
    "data_s",
    "step_s",
    "clips_per_s",
    "peak_memory_bytes",
    "world_size",
)
_MAX: Final = 1e300
_OF_EPOCH: Final = ("epoch", "steps", "clips", "data_s", "step_s")


def read_compute(path: Path) -> dict[str, Any]:
    """What the callback ComputeAccounting wrote.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read or is no regular file.
        ValueError: Naming the file, if something is missing or no number of at least 0.
    """
    compute = read_json_object(path)
    _check_numbers(path, compute, _TOTALS)
    if not isinstance(compute.get("device"), str):
        raise ValueError(f"{path}: device must be a name, got {compute.get('device')!r:.50}")
    epochs = compute.get("epochs")
    if not isinstance(epochs, list) or not all(isinstance(epoch, dict) for epoch in epochs):
        raise ValueError(f"{path}: epochs must be a list of objects")
    for epoch in epochs:
        _check_numbers(path, epoch, _OF_EPOCH)
        flops = epoch.get("flops")
        if not isinstance(flops, dict):
            raise ValueError(f"{path}: flops of an epoch must be an object")
        _check_numbers(path, flops, tuple(flops))
    return compute


def _check_numbers(path: Path, content: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        value = content.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value > _MAX:
            raise ValueError(f"{path}: {name} must be a number, got {value!r:.50}")
        check_number(f"{path}: {name}", float(value), at_least=0.0)
