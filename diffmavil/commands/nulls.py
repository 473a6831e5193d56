"""Keys of a config that are null where they may not be: the parser looks at those of the command line alone."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from pkgutil import resolve_name
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import Namespace


def refuse_nulls(config: Namespace | None, key: str, target: Any = None) -> None:
    """Refuse a null where the annotation of an argument does not name ``None``.

    Args:
        config: Arguments by name as the parser leaves them, or a ``class_path`` and its ``init_args``; in them, what is
            to be built is again of one of these forms.
        key: Where they are in the whole config.
        target: The class or function that they are of, where they have no ``class_path``.

    Raises:
        ValueError: If so, with the whole key.
    """
    if config is not None and "class_path" in config:
        target, config = resolve_name(config.class_path), config.get("init_args")
    if config is None:
        return
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # annotated with what is only imported for a type checker
        return
    for name, value in vars(config).items():
        hint = hints.get(name, Any)
        if value is None and hint is not Any and NoneType not in (hint, *get_args(hint)):
            raise ValueError(f"{key}.{name} must not be null")
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Namespace) and ("class_path" in entry or is_dataclass(hint)):
                refuse_nulls(entry, f"{key}.{name}", hint)
