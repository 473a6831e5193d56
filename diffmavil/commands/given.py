"""What the user gave, on the command line and in configs: by it a message finds the whole key that it speaks of."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from diffmavil.commands.config_text import ConfigTextError, check_text, flags, read_text
from diffmavil.commands.configs import find_configs


def with_key(text: str, args: list[str], filename: str | None = None) -> str:
    """A message that begins with the name of a value, or is about a file, with the whole key before it.

    Args:
        text: The message.
        args: The command line.
        filename: The file that it is about.
    """
    found = list(given(args))
    if filename is not None:
        about = [key for key, value in found if isinstance(value, str) and _is_place(value, filename)]
        return text if not about or about[-1] in text else f"{about[-1]}: {text}"
    name = re.match(r"\w+(?= must )", text)
    if name is None:
        return text
    keys = [(key, value) for key, value in found if key.endswith(f".{name[0]}")]
    got = text.rpartition("got ")[2]
    same = [(key, value) for key, value in keys if _is(value, got)]
    whole = {key for key, _ in same} or {key for key, _ in keys}
    return f"{whole.pop().removesuffix(name[0])}{text}" if len(whole) == 1 else text


def _is_place(value: str, filename: str) -> bool:
    """Whether a file is the one that a value names, or lies in it, or on the way to it."""
    one, other = f"{os.path.abspath(value)}/", f"{os.path.abspath(filename)}/"
    return len(value) > 1 and (one.startswith(other) or other.startswith(one))


def _is(value: Any, got: str) -> bool:
    """Whether a message speaks of a value; numbers may be written in many ways."""
    if str(value) == got:
        return True
    try:
        one, other = float(str(value).strip(".")), float(got)
    except ValueError:
        return False
    return one == other or (math.isnan(one) and math.isnan(other))


def given(args: list[str]) -> Iterator[tuple[str, Any]]:
    """Every key and value; those of a class are written as on the command line, without init_args."""
    try:
        args = find_configs(args)
    except (OSError, ConfigTextError):  # what is refused
        pass
    words = flags(args)
    paths = [value for key, value in words if key == "config"]
    paths += [after for word, after in zip(args, args[1:], strict=False) if word == "-c"]
    for path in paths:
        try:
            content = get_loader("yaml")(read_text(Path(path)))
        except (OSError, ValueError, yaml.YAMLError, ConfigTextError):
            continue
        yield from _flat(content, "")
    for key, value in words:
        yield key, value
        if value.lstrip().startswith(("{", "[")):
            try:
                check_text(value)
                yield from _flat(get_loader("yaml")(value), f"{key}.")
            except (ValueError, yaml.YAMLError, ConfigTextError):
                continue


def _flat(content: Any, above: str) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "class_path":
                yield above[:-1], value
            elif name == "init_args":
                yield from _flat(value, above)
            else:
                yield f"{above}{name}", value
                yield from _flat(value, f"{above}{name}.")
    elif isinstance(content, list):
        for value in content:
            yield above[:-1], value
            yield from _flat(value, above)
