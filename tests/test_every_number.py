"""Every number of every class and command, found by its signature, is checked: a new key without a check fails here."""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from jsonargparse import ArgumentParser
from number_keys import ALLOWED, BAD, GIVEN, KEYS, Key, bad_values, is_allowed

from diffmavil import cli


@cache
def _parser(target: Callable[..., Any]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    (parser.add_class_arguments if inspect.isclass(target) else parser.add_function_arguments)(target, "x")
    return parser


def _build(key: Key, value: Any, *, good: bool) -> None:
    parameters = inspect.signature(key.target).parameters
    given = {
        name: GIVEN[name]()
        for name, parameter in parameters.items()
        if (parameter.default is inspect.Parameter.empty or name == "backbone") and name != key.name
    }
    if "size" in parameters:
        given["size"] = "nano"
    built = _parser(key.target).parse_object({"x": given | {key.name: value}})
    built = _parser(key.target).instantiate(built)
    if not inspect.isclass(key.target):
        if good and key.target.__name__ in cli.OTHER:
            return  # it would set to work
        key.target(**vars(built.x))


def test_the_walk_finds_the_keys() -> None:
    labels = {key.label for key in KEYS}
    assert len(KEYS) > 120
    assert {"PretrainModule.lr", "ClipDataModule.num_workers", "LargestBatch.margin", "ShardSource.cache_gb"} <= labels
    assert {"diffmavil.rho", "synth.clips", "prepare.attempts", "Audit.apart_s", "DataSettings.fps"} <= labels
    for name in " ".join(names for kinds in ALLOWED.values() for names in kinds.values()).split():
        assert name in labels | {key.name for key in KEYS}, f"{name} is no key any more"


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # a part without blocks may be
@pytest.mark.parametrize("bad", BAD)
def test_every_number_is_in_its_range_or_named(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no checks of types either
    faults = []
    for key in KEYS:
        for value in bad_values(key, bad):
            try:
                _build(key, value, good=is_allowed(key, bad))
            except (ValueError, ArgumentError, TypeError) as error:
                text = cli.one_line(error)
                if is_allowed(key, bad):
                    faults.append(f"{key.label} = {value} is allowed but refused: {text}")
                elif key.name not in text or not isinstance(error, (ValueError, ArgumentError)):
                    faults.append(f"{key.label} = {value} is not named: {text}")
            except FileNotFoundError as error:
                faults.append(f"{key.label} = {value} is not looked at before files are: {error}")
            else:
                if not is_allowed(key, bad):
                    faults.append(f"{key.label} = {value} is taken")
    assert not faults, "\n".join(faults)
