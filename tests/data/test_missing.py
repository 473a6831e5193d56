"""Files that are not there under the name that a table gives, but under one that looks the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmavil.data import ClipDataModule, ManifestSource

COMPOSED, DECOMPOSED = "caf\u00e9.wav", "cafe\u0301.wav"


@pytest.mark.parametrize(
    ("there", "given", "hint"),
    [
        (DECOMPOSED, COMPOSED, " (a file whose name looks the same is there: its letters are in Unicode's NFD, "),
        (COMPOSED, DECOMPOSED, " (a file whose name looks the same is there: its letters are in Unicode's NFC, "),
        (f"b\u00e9/{DECOMPOSED}", f"b\u00e9/{COMPOSED}", " (a file whose name looks the same is there: "),
        (
            "win/x.wav",
            "win\\x.wav",
            " (the name holds a backslash, as paths of Windows do; with / in its place it is the",
        ),
        ("x.wav", "other\\x.wav", " (the name holds a backslash, as paths of Windows do)"),
        ("x.wav", "C:\\clips\\x.wav", " (the name is a path of Windows)"),
        ("x.wav", "D:/clips/x.wav", " (the name is a path of Windows)"),
        ("x.wav", "y.wav", ""),
    ],
)
def test_the_line_says_what_may_be_wrong_with_the_name(tmp_path: Path, there: str, given: str, hint: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    (tmp_path / "clips.csv").write_text(f"path\n{given}\n", encoding="utf-8")
    data = ClipDataModule(source=ManifestSource(path=tmp_path / "clips.csv"), num_workers=0)
    with pytest.raises(ValueError) as caught:
        data.setup("fit")
    line = str(caught.value)
    assert f"{tmp_path / given}: missing file{hint}" in line and "\n" not in line
    assert hint or line.endswith("missing file")
