"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import SHARED

from diffmavil.commands.synth import synth


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/data with real clips is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def made_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made data set: 40 clips of 1.5 s, 30 to train on and 10 to test on, and their manifest.csv."""
    root = tmp_path_factory.mktemp("made")
    synth(out=root, clips=40, seed=3, clip_s=1.5, size_px=48, fps=8, workers=1)
    return root
