"""Indices that cannot be used are told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmavil.data import ShardSource


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        ('{"format_version": 1}', "format_version must be 3, got 1; `diffmavil prepare` into a new folder"),
        (
            '{"format_version": 2}',
            "format_version must be 3, got 2; the same `diffmavil prepare` as before writes the in",
        ),
        ('{"format_version": 4}', "format_version must be 3, got 4; `diffmavil prepare` into a new folder"),
        ('{"format_version": 3}', "the index is damaged; `diffmavil prepare` writes it anew .the checksum differs"),
        ("[]", "the index is damaged; `diffmavil prepare` writes it anew"),
        ("", "the index is damaged; `diffmavil prepare` writes it anew"),
        (None, "the index cannot be read .not a regular file"),
    ],
)
def test_indices_that_cannot_be_used(tmp_path: Path, names: str | None, rule: str) -> None:
    path = tmp_path / "index" / "names.json"
    path.parent.mkdir()
    if names is None:
        path.mkdir()
    else:
        path.write_text(names)
    with pytest.raises(ValueError, match=rule):
        ShardSource(root=tmp_path).clips()
