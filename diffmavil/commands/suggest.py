"""What a misspelt word was meant to be: a key, a class, a command, a config."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

_OURS: Final = ("diffmavil.modules", "diffmavil.data", "diffmavil.callbacks", "diffmavil.models")
_NAMED_IN_CONFIGS: Final = (*_OURS, "lightning.pytorch.callbacks", "lightning.pytorch.loggers")
"""Packages whose classes a config may name."""

_COMMANDS_ELSEWHERE: Final = {"train": "fit", "pretrain": "fit", "finetune": "fit", "eval": "test", "evaluate": "test"}


def did_you_mean(words: Iterable[str]) -> str:
    """The end of a message; empty where there is nothing to suggest."""
    found = list(dict.fromkeys(words))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def near(word: str, known: Iterable[str], cutoff: float = 0.6, most: int = 1) -> list[str]:
    """The known words that are most like a given one, if any is, with no regard to case."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in get_close_matches(word.lower(), by_lower, most, cutoff)]


def near_command(word: str, commands: Iterable[str]) -> list[str]:
    """The command that was meant, if any is near."""
    if word.lower() in _COMMANDS_ELSEWHERE:
        return [_COMMANDS_ELSEWHERE[word.lower()]]
    return near(word, commands)


def near_config(name: str, names: Iterable[str]) -> list[str]:
    """The packaged config that was meant, if any is near; endings are not compared."""
    by_stem = {known.removesuffix(".yaml"): known for known in names}
    return [by_stem[stem] for stem in near(re.sub(r"\.ya?ml$", "", name), by_stem)]


def with_suggestion(text: str, given: Sequence[tuple[str, Any]], keys: Callable[[], Iterable[str]]) -> str:
    """A message about a key or a class that is not known, with what was meant, where something is near.

    Args:
        text: The message.
        given: Every key and value that the user gave, those of a class without ``init_args``.
        keys: Gives the keys that the command's own parser knows; they may take a moment.
    """
    if text.startswith("unrecognized arguments: "):
        words = [word.partition("=")[0].removesuffix("+") for word in text.split() if word.startswith("--")]
        known = [*keys(), *_class_keys(given)]
        return text + did_you_mean(f"--{key}" for word in words for key in near_key(word[2:], known))
    if unknown := re.findall(r"unknown key ([\w.]+?)(?=\.class_path|\.init_args|[^\w.]|$)", text):
        known = [*keys(), *_class_keys(given)]
        names = {key for key, _ in given}  # a command may add keys of its own
        return text + did_you_mean(key for word in unknown if word in names for key in near_key(word, known))
    if match := re.search(r"no class is named ([\w.]+)", text):
        return text + did_you_mean(near(match[1].rpartition(".")[2], _classes()))
    if match := re.search(r"module '(diffmavil[\w.]*)' has no attribute '(\w+)'", text):
        return text + did_you_mean(f"{match[1]}.{name}" for name in near(match[2], _public(match[1])))
    if match := re.search(r"No module named '(\w+)[\w.]*'", text):
        return text + _where_modules_are(match[1])
    return text


def _where_modules_are(package: str) -> str:
    """What to do about a package of one's own that Python does not find; empty where it is found."""
    is_here = any((Path.cwd() / name).exists() for name in (package, f"{package}.py"))
    if find_spec(package) is not None:
        return ""
    if is_here:  # an installed command does not look where it is called from
        return f"; {package} is in the working directory: call python -m diffmavil, or set PYTHONPATH=."
    return f"; set PYTHONPATH to the folder that holds {package}, or call python -m diffmavil from there"


def near_key(key: str, known: Iterable[str]) -> list[str]:
    """The key that was meant, if any is near: beside it, elsewhere under its name, or what is like it.

    Args:
        key: A key that is not known, such as ``model.learning_rate``.
        known: Those that are.
    """
    known = list(dict.fromkeys(known))
    parent, _, leaf = key.rpartition(".")
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == parent}
    initials = "".join(word[0] for word in leaf.split("_") if word)  # learning_rate is lr
    if len(initials) > 1 and initials in beside:
        return [beside[initials]]
    if names := near(leaf, beside):
        return [beside[name] for name in names]
    if same := [name for name in known if name.rpartition(".")[2] == leaf]:
        return same[:2]
    first, dot, rest = key.partition(".")
    if dot and first not in (firsts := {name.partition(".")[0] for name in known}):
        return [f"{name}.{rest}" for name in near(first, firsts)]
    leaves = {name.rpartition(".")[2]: name for name in known}
    return [leaves[name] for name in near(leaf, leaves, 0.9) or near(leaf, leaves, 0.7, most=2)]


def _class_keys(given: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """Keys of the classes and functions that the user named."""
    for key, value in given:
        built = _named(value) if isinstance(value, str) else None
        if built is not None:
            yield from (f"{key}.{name}" for name in inspect.signature(built).parameters)


def _named(name: str) -> Callable[..., object] | None:
    module, _, last = name.rpartition(".")
    for place in [module] if module else _NAMED_IN_CONFIGS:
        # nothing is imported for a value's sake: what is a class's path, the parser has imported
        found = getattr(sys.modules.get(place), last, None)
        if inspect.isclass(found) or inspect.isfunction(found):
            return found
    return None


def _classes() -> list[str]:
    return [name for module in _NAMED_IN_CONFIGS for name in _public(module) if name[0].isupper()]


def _public(module: str) -> list[str]:
    return [name for name in dir(import_module(module)) if not name.startswith("_")]
