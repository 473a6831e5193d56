"""Files of figures and names that are damaged, huge or none are told in one line, whoever reads them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from command_config import Run

from diffmavil.data.json_files import is_sealed, read_json, read_json_object, sealed, unsealed
from diffmavil.data.regular import read_regular


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "not a regular file"),
    "folder": (Path.mkdir, "not a regular file"),
    "socket": (_socket, "No such device"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "no end of a link": (lambda path: path.symlink_to("x.json"), "Too many levels"),
    "a terabyte": (_sparse, "larger than 67108864 bytes"),
}
TEXTS = {
    "deep": (b"[" * 100_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, "nested too deeply"),
    "many": (b"[" + b"{}," * 2**20 + b"0]", "more than 1048576 lists and objects"),
    "digits": (b"9" * 5000, "Exceeds the limit"),
    "no UTF-8": (b'{"a": "\xff"}', "can't decode"),
    "nothing": (b"", "Expecting value"),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_only_regular_files_of_a_bounded_size_are_read(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, rule = SPECIAL[what]
    make(tmp_path / "x.json")
    with pytest.raises(OSError, match=rule):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("what", TEXTS)
def test_what_is_no_json_or_would_burst(what: str, tmp_path: Path) -> None:
    data, rule = TEXTS[what]
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=rule):
        read_json(tmp_path / "x.json")
    with pytest.raises(ValueError, match=r"x.json: the file must hold JSON \("):
        read_json_object(tmp_path / "x.json")


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    (tmp_path / "y.json").symlink_to("x.json")
    assert read_json(tmp_path / "y.json") == [1]
    with pytest.raises(ValueError, match="y.json: the file must hold a JSON object, got list"):
        read_json_object(tmp_path / "y.json")
    assert read_regular(tmp_path / "x.json", max_bytes=3) == b"[1]"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read_regular(tmp_path / "x.json", max_bytes=2)


def test_a_seal_is_of_what_is_said_not_of_how_it_is_laid_out() -> None:
    said = {"b": [1, 2.5, None], "a": {"ü\udcff": True}}
    again = json.loads(json.dumps(dict(reversed(sealed(said).items())), indent=3))
    assert is_sealed(again) and not is_sealed(said) and unsealed(again) == said
    for change in ({"b": [1, 2.5, 0]}, {"c": 1}, {"crc32": 0}, {"crc32": None}):
        with pytest.raises(ValueError, match="the checksum differs"):
            unsealed(again | change)


COMPUTE = {
    "not JSON": ("x", "must hold JSON"),
    "list": ("[]", "must hold a JSON object, got list"),
    "empty": ("{}", "clips must be a number, got None"),
    "text": ('{"clips": "many"}', "clips must be a number, got 'many'"),
    "NaN": ('{"clips": NaN}', "clips must be at least 0, got nan"),
    "huge": ('{"clips": 1' + "0" * 400 + "}", "clips must be a number, got 1000"),
    "deep": ("[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("what", COMPUTE)
def test_figures_of_a_run_that_are_none(what: str, run: Run, tmp_path: Path) -> None:
    text, rule = COMPUTE[what]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "compute.json").write_text(text)
    code, _, err = run("compare", "a", "a")
    assert code == 2 and "compute.json" in err and rule in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    ["x", "[]", "{}", '{"settings": 3, "folds": [], "scores": {}}', "[" * 100_000]
    + ['{"settings": {"arguments": []}, "folds": ["x"], "scores": {}}']
    + ['{"settings": {"arguments": []}, "folds": [], "scores": {"1": "x"}}'],
)
def test_kept_folds_that_are_none(text: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "results.json").write_text(text)
    code, _, err = run("cross-validate", "--folds", "1,2", "--out", "cv", "--config", "mine.yaml")
    assert code == 2 and "results.json: the file must hold" in err and err.count("\n") == 1
