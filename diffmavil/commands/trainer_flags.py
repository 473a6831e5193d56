"""The trainer's numbers, of which Lightning takes some that end in a traceback, or in a run that does nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from diffmavil.checks import MAX_CLIPS, MAX_EPOCHS, check_number

_ENDLESS: Final = -1
"""What Lightning calls no end, in max_epochs and max_steps."""

_COUNTS: Final[dict[str, dict[str, Any]]] = {
    "num_nodes": {"at_least": 1, "limit": 100_000},
    "max_epochs": {"at_least": 1, "limit": MAX_EPOCHS},
    "min_epochs": {"at_least": 0, "limit": MAX_EPOCHS},
    "max_steps": {"at_least": 1, "limit": 10**12},
    "min_steps": {"at_least": 0, "limit": 10**12},
    "check_val_every_n_epoch": {"at_least": 1, "limit": MAX_EPOCHS},
    "num_sanity_val_steps": {"at_least": -1, "limit": MAX_CLIPS},
    "log_every_n_steps": {"at_least": 0, "limit": 10**12},
    "accumulate_grad_batches": {"at_least": 1, "limit": MAX_CLIPS},
    "reload_dataloaders_every_n_epochs": {"at_least": 0, "limit": MAX_EPOCHS},
    "gradient_clip_val": {"at_least": 0, "limit": 1e12},
    "fast_dev_run": {"at_least": 0, "limit": MAX_CLIPS},
    "limit_val_batches": {"at_least": 0, "limit": MAX_CLIPS},
    "overfit_batches": {"at_least": 0, "limit": MAX_CLIPS},
    # 0 is to do nothing at all
    "limit_train_batches": {"above": 0, "limit": MAX_CLIPS},
    "limit_test_batches": {"above": 0, "limit": MAX_CLIPS},
    "limit_predict_batches": {"above": 0, "limit": MAX_CLIPS},
    "val_check_interval": {"above": 0, "limit": MAX_CLIPS},
    "devices": {"at_least": -1, "limit": 100_000},
}

_SHARES: Final = {
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
    "val_check_interval",
}
"""Floats of these are shares of all batches, integers are batches."""


def check_flags(flags: Mapping[str, Any]) -> None:
    """Refuse numbers that the trainer cannot do anything with.

    Args:
        flags: Arguments of the trainer.

    Raises:
        ValueError: If a number is outside its range, with its whole key.
    """
    for name, bounds in _COUNTS.items():
        value = flags.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if value == _ENDLESS and name in ("max_epochs", "max_steps"):
            continue
        key = f"trainer.{name}"
        if isinstance(value, float) and name in _SHARES:
            bounds = {side: bound for side, bound in bounds.items() if side != "limit"} | {"at_most": 1.0}
        check_number(key, value, **bounds)
    if flags.get("devices") == 0:
        raise ValueError("trainer.devices must be at least 1, or -1 for all, got 0")


def blamed(error: Exception, flags: Mapping[str, Any]) -> str:
    """What the trainer says of a flag, with the flag's key where it does not name it.

    Args:
        error: The trainer's.
        flags: Its arguments.
    """
    text = str(error)
    if spoken_of := [name for name, value in flags.items() if value is not None and re.search(rf"\b{name}=", text)]:
        return f"trainer.{spoken_of[0]}: {text}"
    if any(re.search(rf"\b{name}\b", text) for name, value in flags.items() if value is not None):
        return text
    for name, value in flags.items():
        if isinstance(value, str) and len(value) > 1 and re.search(rf"\b{re.escape(value)}\b", text):
            return f"trainer.{name} cannot be {value}: {text}"
    named = ("accelerator", "strategy", "profiler")
    given = [f"{name}: {flags[name]}" for name in named if isinstance(flags.get(name), str) and flags[name] != "auto"]
    return f"trainer ({', '.join(given)}): {text}" if given else f"trainer: {text}"
