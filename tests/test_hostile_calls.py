"""A few of the thousand calls of hostile_calls.py, one or two of each kind; all of them make the table of the docs."""

from __future__ import annotations

from pathlib import Path

import hostile_calls
import pytest


def test_there_are_a_thousand_of_every_kind() -> None:
    cases = hostile_calls.cases()
    assert len(cases) >= 1000
    assert len({case.group for case in cases}) >= 10
    assert sum("os.system" in " ".join(case.args) for case in cases) > 20


@pytest.mark.slow
def test_calls_of_each_kind_end_in_a_line(tmp_path: Path) -> None:
    """In children of this process, which has imported everything: 60 s each at most, and nothing left behind."""
    import diffmavil.commands.train  # noqa: F401

    groups: dict[str, list[hostile_calls.Case]] = {}
    for case in hostile_calls.cases():
        groups.setdefault(case.group, []).append(case)
    made = hostile_calls.make(tmp_path)
    for group, cases in groups.items():
        case = next(case for case in cases[len(cases) // 2 :] if not case.may)
        outcome = hostile_calls.call(case, tmp_path, made)
        assert outcome.what in hostile_calls.GOOD, f"{group}: {case.args} {case.files.get('bad.yaml')!r}: {outcome}"
