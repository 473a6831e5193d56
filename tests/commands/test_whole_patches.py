"""Windows that are no whole number of patches: the key and the nearest values that work, before any clip is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_config import CONFIG, Run

FINE = CONFIG.replace("PretrainModule", "FineTuneModule").replace("    model:", "    num_classes: 2\n    backbone:")
AUDIO = ["--model.modalities", "audio", "--data.modalities", "audio"]
VIDEO = ["--model.modalities", "video", "--data.modalities", "video"]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (["fit", "--config", "mine.yaml", "--data.clip_s", "10"], "data.clip_s 9.92 10.08 10"),
        (["predict", "--config", "mine.yaml", "--data.clip_s", "0.05"], "data.clip_s 0.16 0.05"),
        (["validate", "--config", "mine.yaml", "--data.frame_shift_ms", "20"], ""),
        (["fit", "--config", "fine.yaml", *AUDIO, "--data.num_mel_bins", "100"], "data.num_mel_bins 96 112 100"),
        (["test", "--config", "fine.yaml", *VIDEO, "--data.image_size", "100"], "data.image_size 96 112 100"),
        (["fit", "--config", "fine.yaml", *VIDEO, "--data.num_frames", "7"], "data.num_frames 6 8 7"),
        (["fit", "--config", "fine.yaml", *VIDEO, "--data.clip_s", "10"], ""),
        (["flops", "--config", "mine.yaml", "--data.clip_s", "10"], "data.clip_s 9.92 10.08 10"),
        (["compare", "mine.yaml", "bad.yaml"], "data.clip_s 9.92 10.08 10"),
    ],
)
def test_the_key_and_the_nearest_values_are_named(line: list[str], rule: str, run: Run) -> None:
    """There is no folder of clips: whatever is let by is told so, and nothing else."""
    Path("fine.yaml").write_text(FINE)
    Path("bad.yaml").write_text(CONFIG + "  clip_s: 10\n")
    if "predict" in line:
        line = [*line, "--data.num_frames", "2", "--data.fps", "50"]
    code, _, err = run(*line)
    last = err.splitlines()[-1].removeprefix("diffmavil: error: ")
    assert code == 2 and "Traceback" not in err
    if not rule:
        assert last == "data.source.root must be a folder, got clips"
        return
    key, *near, got = rule.split()
    assert last.startswith(f"{key} must ") and re.search(rf"such as {' or '.join(near)}, got {got}( |$)", last), last


def test_a_frame_rate_that_needs_more_than_the_window_is_named(run: Run) -> None:
    code, _, err = run("fit", "--config", "mine.yaml", "--data.fps", "0.5")
    assert code == 2 and err.splitlines()[-1].endswith("num_frames / fps must be at most clip_s = 10.24 s, got 16 s")
