"""What the command lines of all benchmarks share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from jsonargparse import ArgumentParser

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class BenchOptions(Generic[Settings]):
    """A benchmark's command line.

    Args:
        command: The command, without ``--json``.
        settings: What to measure.
        as_json: Whether to print JSON.
        out: Where to write the page.
    """

    command: str
    settings: Settings
    as_json: bool
    out: Path | None

    def show(self, result: dict[str, Any], page: str) -> None:
        """Write the page, and print it or the figures."""
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(page + "\n")
        print(json.dumps(result, indent=2) if self.as_json else page)


def read_options(name: str, settings: type[Settings], args: list[str]) -> BenchOptions[Settings]:
    """Read a benchmark's command line.

    Args:
        name: The benchmark, such as ``diffmavil bench data``.
        settings: Dataclass whose fields are its options, beside ``--json`` and ``--out FILE``.
        args: The words after its name.

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ValueError: If a value is out of its range.
    """
    parser = ArgumentParser(prog=name, exit_on_error=False, allow_abbrev=False)
    names = parser.add_class_arguments(settings)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path | None, help="file for the page, in Markdown")
    options = parser.parse_args(args)
    command = " ".join([name, *(arg for arg in args if arg != "--json")])
    values = {name: options[name] for name in names}
    return BenchOptions(command, settings(**values), options["json"], options["out"])
