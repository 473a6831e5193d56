"""Lines of progress: how often, and what they say."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from pathlib import Path

import lightning as L
import pytest
from small import learner, made_data, trainer

from diffmavil.lightning_glue.progress import EpochBar, ProgressLines, progress_bar
from diffmavil.modules import PretrainModule


@pytest.mark.parametrize(("columns", "expected"), [(0, ProgressLines), (100, EpochBar)])
def test_a_terminal_gets_a_bar_if_its_width_is_known(
    columns: int, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, terminal = pty.openpty()
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with os.fdopen(main), os.fdopen(terminal, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        bar = progress_bar()
        monkeypatch.undo()
    assert type(bar) is expected


class Slow(L.Callback):
    """Makes each step take a twentieth of a second."""

    def on_train_batch_start(self, *args: object) -> None:
        time.sleep(0.05)


@pytest.mark.parametrize(("interval_s", "lines"), [(1e-6, 6), (1000.0, 2)])
def test_a_line_each_interval_and_at_the_end_of_each_epoch(
    interval_s: float, lines: int, made_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callbacks = [ProgressLines(interval_s), Slow()]
    flags = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 0, "enable_progress_bar": True}
    trainer(tmp_path, callbacks=callbacks, **flags).fit(PretrainModule(model=learner()), made_data(made_clips))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(said) == lines
    assert [line.split(", ")[:2] for line in said if "batch 3" in line] == [
        ["epoch 1 of 2", "batch 3 of 3"],
        ["epoch 2 of 2", "batch 3 of 3"],
    ]
    for line in said:
        assert re.search(r"train/loss \d", line)
        assert ("left of it" in line) == ("batch 3" not in line), "an end says nothing of what is left"
