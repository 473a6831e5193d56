"""Damaged and hostile folders of shards: none is taken silently wrong, hangs, crashes, executes or writes outside."""

from __future__ import annotations

from pathlib import Path

import hostile_shards
import pytest
from hostile_shards import CLIPS, LEFT_OUT, REFUSED, RIGHT

EVERY: int = 4
"""Of each kind a quarter is tried, to be quick; all of them: ``python tests/hostile_shards.py FOLDER``."""

NEVER_READ = ("a bit flipped in the index", "index cut short", "names.json of another kind")


@pytest.mark.slow
def test_each_is_refused_in_a_line_or_read_rightly_but_for_what_is_named(tmp_path: Path) -> None:
    good_root = hostile_shards.make_good(tmp_path)
    good, skipped = hostile_shards.read(good_root)
    assert len(good) == CLIPS and not skipped
    all_cases = list(hostile_shards.cases())
    assert len(all_cases) > 400
    wrong, seen = [], set()
    for case in all_cases[::EVERY]:
        what, detail = hostile_shards.try_case(case, good_root, good, tmp_path)
        seen.add(what)
        if what not in (REFUSED, LEFT_OUT, RIGHT) or (case.kind in NEVER_READ and what != REFUSED):
            wrong.append((case.kind, case.name, case.seed, what, detail))
        if what == REFUSED and (len(detail) > 500 or str(tmp_path) not in detail):
            wrong.append((case.kind, case.name, case.seed, "its line", detail))
    assert not wrong
    assert seen == {REFUSED, LEFT_OUT, RIGHT}
