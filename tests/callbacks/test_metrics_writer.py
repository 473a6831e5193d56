"""The file of a run's figures: nothing of it is lost, and it costs no run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from small import trainer

from diffmavil.callbacks import MetricsWriter

Entries = list[dict[str, Any]]


class Scored(LightningModule):
    """Has one score, not finite where that is asked for."""

    def __init__(self, score: float = 0.5) -> None:
        super().__init__()
        self.score = score

    def test_step(self, batch: torch.Tensor) -> None:
        self.log("test/accuracy", self.score)


def measure(run: Path, score: float = 0.5, **about: str) -> None:
    writer = MetricsWriter(about={"command": "test", "module": "Scored", **about}, run=run)
    loader = torch.utils.data.DataLoader(torch.zeros(1, 1))  # type: ignore[arg-type]
    trainer(run / "other", callbacks=[writer]).test(Scored(score), loader, verbose=False)


def entries(run: Path) -> Entries:
    found: Entries = json.loads((run / "metrics.json").read_text())
    return found


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def test_the_same_measured_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    measure(tmp_path, 0.5, settings="fold 1")
    measure(tmp_path, 0.25, settings="fold 2")
    measure(tmp_path, float("nan"), settings="fold 1")
    assert [(entry["settings"], entry["metrics"]["test/accuracy"]) for entry in entries(tmp_path)] == [
        ("fold 2", 0.25),
        ("fold 1", None),
    ]


def test_measurements_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        writer = MetricsWriter(about={"command": "test", "data": str(number)})
        writer._add(tmp_path / "metrics.json", {**writer.about, "metrics": {"test/accuracy": 0.5}})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert sorted(int(entry["data"]) for entry in entries(tmp_path)) == list(range(40))


def test_a_file_that_cannot_be_written_costs_nothing_but_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.json").mkdir()
    measure(tmp_path)
    assert f"{tmp_path / 'metrics.json'} could not be written" in caplog.text


def test_a_damaged_file_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics.json").write_text("[{")
    measure(tmp_path)
    assert len(entries(tmp_path)) == 1 and (tmp_path / "metrics.json.damaged").read_text() == "[{"
    assert "the file must hold JSON" in caplog.text and "metrics.json.damaged" in caplog.text
