"""What a config may be, before a parser makes anything of it: a short file of plain values, however it is nested.

YAML can say much in few words: aliases of aliases grow without end, a node may hold itself, and tags name other types
than a config has. The parser would go along with all of it.
"""

from __future__ import annotations

import os
import re
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import Any, Final

import yaml
from jsonargparse import get_loader, set_loader

MAX_BYTES: Final = 1_000_000
MAX_VALUES: Final = 10_000
"""Most keys and values, with every alias written out."""
MAX_DEPTH: Final = 50
"""Most levels of lists and mappings, one in the other."""
MAX_DIGITS: Final = 300
"""Most characters of a number: what has more does not fit a float."""

_TAGS: Final = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9a-fA-FxXoO_:.]*")


class ConfigTextError(Exception):
    """A config that is refused before it is read."""


class _Node:
    """A list or a mapping that is not at its end yet: how much it holds so far, and its keys if it is a mapping."""

    def __init__(self, anchor: str | None, keys: set[str] | None) -> None:
        self.anchor, self.keys = anchor, keys
        self.values, self.depth, self.is_key = 1, 1, keys is not None


def check_text(text: str) -> None:
    """Refuse YAML that is too much, in one pass over its events: nothing is built, and no alias is written out.

    Args:
        text: YAML or JSON.

    Raises:
        ConfigTextError: If it is too long or too deep, holds too many values or itself, names a key twice or a type
            that a config has not.
        yaml.YAMLError: If it is no YAML.
    """
    if len(text) > MAX_BYTES:
        raise ConfigTextError(f"a config must have at most {MAX_BYTES} characters, got {len(text)}")
    sizes: dict[str, tuple[int, int]] = {}  # of what has an anchor: values and depth
    within: list[_Node] = []
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            _check_tag(event.tag, line)
            if len(within) >= MAX_DEPTH:
                raise ConfigTextError(f"line {line}: a config must have at most {MAX_DEPTH} levels, got more")
            sizes.pop(event.anchor, None)  # an anchor that is used again is not what it was
            within.append(_Node(event.anchor, set() if isinstance(event, yaml.MappingStartEvent) else None))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            node = within.pop()
            size = node.values, node.depth
            if node.anchor:
                sizes[node.anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, line)
            size = 1, 0
            if event.anchor:
                sizes[event.anchor] = size
            if within and within[-1].is_key and within[-1].keys is not None:
                if event.value in within[-1].keys and event.value != "<<":
                    raise ConfigTextError(f"line {line}: a key must be there once, got {event.value!r} again")
                within[-1].keys.add(event.value)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes and any(node.anchor == event.anchor for node in within):
                raise ConfigTextError(f"line {line}: a value must not hold itself, got *{event.anchor} in it")
            size = sizes.get(event.anchor, (1, 0))
        else:
            continue
        if within:
            _add(within, size, line)


def _add(within: list[_Node], size: tuple[int, int], line: int) -> None:
    node = within[-1]
    node.values, node.depth = node.values + size[0], max(node.depth, size[1] + 1)
    node.is_key = node.keys is not None and not node.is_key
    if node.values > MAX_VALUES:
        raise ConfigTextError(f"line {line}: a config must have at most {MAX_VALUES} values, got more")
    if len(within) + size[1] > MAX_DEPTH:
        raise ConfigTextError(f"line {line}: a config must have at most {MAX_DEPTH} levels, got more")


def _check_tag(tag: str | None, line: int) -> None:
    if tag not in (None, "!", *_TAGS):
        raise ConfigTextError(f"line {line}: a value must be of a type that a config has, got one of {tag}")


def _check_scalar(event: yaml.ScalarEvent, line: int) -> None:
    _check_tag(event.tag, line)
    if event.implicit[0] and len(event.value) > MAX_DIGITS and _NUMBER.fullmatch(event.value):
        raise ConfigTextError(f"line {line}: a number must have at most {MAX_DIGITS} digits, got {len(event.value)}")


def read_text(path: Path) -> str:
    """Content of a config that has been checked.

    Args:
        path: The file.

    Raises:
        ConfigTextError: If it is no file, or its content is refused.
        OSError: If it cannot be read.
    """
    if not path.is_file():
        raise ConfigTextError(f"config must be a file, got {path}")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ConfigTextError(f"config {path} must have at most {MAX_BYTES} bytes, got {size}")
    try:
        text = path.read_text(encoding="utf-8")
        check_text(text)
    except UnicodeDecodeError as error:
        is_wide = path.read_bytes().startswith((BOM_UTF16_LE, BOM_UTF16_BE))
        raise ConfigTextError(f"config {path} must be UTF-8{', it is UTF-16' * is_wide}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigTextError(f"Problems parsing config {path}: {error}") from error
    except ConfigTextError as error:
        raise ConfigTextError(f"config {path}, {error}") from None
    return text


def check_words(args: list[str]) -> None:
    """Refuse what is too much among the values of a command line.

    Args:
        args: The command line.

    Raises:
        ConfigTextError: If a value is, with its key.
    """
    for key, value in flags(args):
        try:
            if key not in ("out", "config") and _is_special(value):
                raise ConfigTextError(f"a file must be no pipe and no device, got {value}")
            if "\0" in value:
                raise ConfigTextError("a value must hold no NUL")
            if key == "trainer.default_root_dir" and not value.isprintable():  # TensorBoard's writer needs UTF-8
                raise ConfigTextError(f"a folder must have a name that can be printed, got {value!r}")
            if value.endswith((".yaml", ".yml")) and Path(value).is_file():
                read_text(Path(value))
            if re.fullmatch(r"[-+]?[0-9]+", value) and len(value) > MAX_DIGITS:
                raise ConfigTextError(f"a number must have at most {MAX_DIGITS} digits, got {len(value)}")
            if re.search(r"[\[{&!]", value):
                check_text(value)
        except yaml.YAMLError:
            continue  # a text with such a character in it
        except ConfigTextError as error:
            raise ConfigTextError(str(error) if key == "config" else f"{key}: {error}") from None


def _is_special(value: str) -> bool:
    """Whether it names what may never come to an end: a parser opens any value that could be the file of a config."""
    try:
        mode = os.stat(value).st_mode
    except (OSError, ValueError):  # a NUL
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def flags(args: list[str]) -> list[tuple[str, str]]:
    """Keys and values of a command line, without the dashes."""
    found = []
    for word, after in zip(args, [*args[1:], ""], strict=False):
        key, equals, value = word.partition("=")
        if key.startswith("--"):
            found.append((key[2:].removesuffix("+"), value if equals or after.startswith("--") else after))
    return found


def guard_parsers() -> None:
    """Let every parser look at what it reads, wherever it reads it from."""
    if get_loader("yaml") is _load:
        return
    _loaders.append(get_loader("yaml"))
    set_loader("yaml", _load, exceptions=(yaml.YAMLError,))


_loaders: list[Any] = []


def _load(text: str) -> Any:
    check_text(text)
    return _loaders[0](text)
