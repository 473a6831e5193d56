"""Part ``tests``: the tests that need a GPU, from the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Final

import diffmavil
from diffmavil.commands.bench.gpu.job import Job

_INI: Final = """[pytest]
addopts = --import-mode=importlib
pythonpath = {tests}
markers =
    slow
    gpu
    ddp
"""
"""In place of pyproject.toml's, which asks for plugins that may be missing and takes every warning for an error."""


def measure(job: Job) -> None:
    """Run ``pytest -m gpu`` on the files that have such tests, and note what became of each.

    Raises:
        AssertionError: If a test failed, or on a GPU if none ran.
    """
    tests = Path(diffmavil.__file__).parents[1] / "tests"
    files = sorted(path for path in tests.rglob("test_*.py") if path.parent.name == "gpu" or _has_marked(path))
    if not files:
        job.keep({"note": "there are no tests beside the package: run this from a source tree"})
        return
    settings, result = job.folder / "pytest.ini", job.folder / "tests.xml"
    settings.write_text(_INI.format(tests=tests))
    words = ["-m", "pytest", "-v", "--tb=short", "-m", "gpu", "-p", "no:cacheprovider", "-c", str(settings)]
    words += ["--rootdir", str(tests.parent), f"--junitxml={result}", f"--basetemp={job.folder / 'tests'}"]
    done = subprocess.run(
        [sys.executable, *words, *map(str, files)],
        cwd=tests.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), *filter(None, sys.path)])},
    )
    outcomes = read_junit(result) if result.is_file() else []
    job.keep({"tests": outcomes})
    ran = [outcome for outcome in outcomes if outcome["outcome"] != "skipped"]
    if done.returncode != 0 or (not ran and job.settings.device == "cuda"):
        failed = sum(outcome["outcome"] == "failed" for outcome in outcomes)
        raise AssertionError(f"{failed} of {len(ran)} tests that ran failed; pytest ended with {done.returncode}")


def _has_marked(path: Path) -> bool:
    """Whether a file of other tests has some that need a GPU."""
    return "pytest.mark.gpu" in path.read_text(encoding="utf-8")


def read_junit(path: Path) -> list[dict[str, Any]]:
    """Name, outcome, seconds and message of each test, from pytest's own file of them."""
    found = []
    for case in ET.parse(path).iter("testcase"):
        named = [case.find(tag) for tag in ("failure", "error", "skipped")]
        said = next((element for element in named if element is not None), None)
        found.append(
            {
                "name": f"{case.get('classname', '').removeprefix('tests.')}: {case.get('name')}",
                "outcome": "passed" if said is None else "skipped" if said.tag == "skipped" else "failed",
                "seconds": float(case.get("time", "0")),
                "message": "" if said is None else " ".join((said.get("message") or "").split())[:300],
            }
        )
    return found
