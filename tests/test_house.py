from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for line in PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().split("\n")[:-1]
TESTED = {canonicalize_name(name): Version(version) for name, version in (c.split("==") for c in CONSTRAINTS)}

# in pieces, so that this file does not find itself
REGISTRIES = re.compile(
    "|".join(["py" + r"pi\.org", "python" + "hosted", r"download\.py" + r"torch\.org", "ana" + "conda"])
)
MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/" + r"(?:root|home|Users|work|opt|mnt|tmp)/\w")


def _files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    found = []
    for path in _files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:  # a picture
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if REGISTRIES.search(line) or MACHINE_PATHS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


def test_the_tested_set_is_names_and_versions_only() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in CONSTRAINTS)
    assert len(TESTED) == len(CONSTRAINTS)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_the_tested_set_lies_in_the_ranges(requirement: Requirement) -> None:
    assert TESTED[canonicalize_name(requirement.name)] in requirement.specifier
    assert any(s.operator == "<" for s in requirement.specifier), "a range has an upper end"


def test_every_import_is_a_declared_dependency() -> None:
    modules = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"}
    declared = {modules.get(name, name) for name in (Requirement(d).name for d in PROJECT["dependencies"])}
    allowed = declared | sys.stdlib_module_names | {"diffmavil"}
    for path in sorted((ROOT / "diffmavil").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                assert name.partition(".")[0] in allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_the_wheel_holds_the_package_and_the_configs(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "diffmavil = diffmavil.cli:main" in archive.read(entry_points).decode()
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "diffmavil").rglob("*.py")}
    configs = {f"diffmavil/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    assert names == package | configs | {"diffmavil/py.typed"}
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "diffmavil", "fit", "--config", "demo/pretrain.yaml", "--print_config"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "size: nano" in done.stdout, done.stderr
