"""Every number that a config or a command line can give, found by the signatures, and bad values for it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import lightning as L
from small import learner
from torch import nn

import diffmavil
import diffmavil.models
from diffmavil import cli
from diffmavil.data import ClipSource, FolderSource
from diffmavil.schedules import Schedule

NAN, INF, HUGE = math.nan, math.inf, 10**30
BAD = {
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "-1": -1,
    "0": 0,
    "huge": HUGE,
    "text": "many",
    "pair": [1, 2],
    "null": None,
}

ALLOWED = {
    "0": {
        "a weight or a share of nothing": "inter_weight intra_weight weight_decay lr_end warmup betas mixup_alpha "
        "label_smoothing token_mask_ratio audio_mask_ratio video_mask_ratio freq_mask_bins time_mask_frames "
        "drop_path_rate val_fraction margin Schedule.start Schedule.end",
        "the first of its kind": "seed fold",
        "no processes, no rooms, no blocks": "num_workers cache_gb depth",
        "a check that lets all or nothing by": "min_clip_s silence_dbfs still_levels apart_s cut_short_s",
        "a mean": "audio_mean",
    },
    "huge": {"told when the training diverges, which it does at its first steps": "lr"},
    "-1": {"a mean, or a value of any sign": "audio_mean silence_dbfs Schedule.start Schedule.end"},
}
"""What may be given, by the kind of value and the reason."""

_learner = cache(learner)

GIVEN: dict[str, Callable[[], Any]] = {
    "model": _learner,
    "backbone": _learner,
    "source": lambda: FolderSource(root="."),
    "audio": lambda: Schedule(start=0.9, end=0.8),
    "video": lambda: Schedule(start=0.9, end=0.8),
    "audio_encoder": lambda: _learner().audio_encoder,
    "video_encoder": lambda: _learner().video_encoder,
    "fusion": lambda: _learner().fusion,
    "audio_decoder": lambda: _learner().audio_decoder,
    "video_decoder": lambda: _learner().video_decoder,
    "corruption": lambda: _learner().audio_decoder.corruption,
    "trunk": lambda: _learner().audio_decoder.trunk,
    "modalities": lambda: "audio",
    "root": lambda: ".",
    "path": lambda: "clips.csv",
    "out": lambda: "out",
    "run": lambda: ".",
    "embed_dim": lambda: 32,
    "encoder_dim": lambda: 32,
    "patch_values": lambda: 16,
    "in_channels": lambda: 1,
    "patch_size": lambda: (4, 4),
    "depth": lambda: 2,
    "num_heads": lambda: 4,
    "num_classes": lambda: 3,
    "alpha": lambda: 0.5,
    "freq_mask_bins": lambda: 2,
    "time_mask_frames": lambda: 2,
    "start": lambda: 0.9,
    "end": lambda: 0.8,
}
"""Values of the arguments without a default."""


class Key(NamedTuple):
    target: Callable[..., Any]
    name: str

    @property
    def label(self) -> str:
        return f"{self.target.__name__}.{self.name}"


def _classes() -> Iterator[type]:
    """All that a config can name by ``class_path``, and the settings of commands."""
    for info in pkgutil.walk_packages(diffmavil.__path__, "diffmavil."):
        if info.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if not inspect.isclass(value) or value.__module__ != info.name or value.__name__.startswith("_"):
                continue
            named = issubclass(value, (nn.Module, L.Callback, ClipSource, L.LightningDataModule))
            settings = dataclasses.is_dataclass(value) and (
                value.__name__.endswith("Settings") or value.__name__ in ("Schedule", "Audit", "Stored", "ClipFormat")
            )
            if (named or settings) and not inspect.isabstract(value):
                yield value


def _functions() -> Iterator[Callable[..., Any]]:
    """Builders, and commands whose arguments are those of a function."""
    yield from (value for value in vars(diffmavil.models).values() if inspect.isfunction(value))
    yield from (getattr(importlib.import_module(f"diffmavil.commands.{name}"), name) for name in cli.OTHER)


def _parts(kind: Any) -> set[Any]:
    arguments = typing.get_args(kind)
    return {kind} if not arguments else set().union(*(_parts(argument) for argument in arguments))


def hints(target: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)


def _keys() -> list[Key]:
    found = []
    for target in [*_classes(), *_functions()]:
        found_hints = hints(target)
        for name in inspect.signature(target).parameters:
            if name in found_hints and _parts(found_hints[name]) & {int, float}:
                found.append(Key(target, name))
    return found


KEYS = _keys()


def bad_values(key: Key, bad: str) -> list[Any]:
    """The bad value, in each place of a list in turn; none where it is a good one."""
    kind = hints(key.target)[key.name]
    if bad == "null" and type(None) in _parts(kind):
        return []
    if bad in ("null", "text", "pair") or not (
        {tuple, list} & {typing.get_origin(k) for k in (kind, *typing.get_args(kind))}
    ):
        return [] if bad == "pair" and typing.get_origin(kind) in (list, tuple) else [BAD[bad]]
    default = inspect.signature(key.target).parameters[key.name].default
    usual = list(GIVEN[key.name]() if default is inspect.Parameter.empty else default)
    return [[*usual[:place], BAD[bad], *usual[place + 1 :]] for place in range(len(usual))]


def is_allowed(key: Key, bad: str) -> bool:
    return any({key.name, key.label} & set(names.split()) for names in ALLOWED.get(bad, {}).values())


def trainer_keys() -> list[tuple[str, bool]]:
    """Numbers of Lightning's trainer, and whether null is one of their values."""
    found = []
    for name, hint in typing.get_type_hints(L.Trainer.__init__).items():
        if _parts(hint) & {int, float}:
            found.append((name, type(None) in _parts(hint)))
    return found
