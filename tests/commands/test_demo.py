"""The demo from end to end, on few clips and for one epoch of pretraining."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from small import made_data

from diffmavil.cli import main
from diffmavil.commands.configs import find_config
from diffmavil.commands.demo_steps import log_mel_baseline

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")  # one epoch of so few clips
def test_ends_with_a_page_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tuning = yaml.safe_load(Path(find_config("demo/finetune.yaml")).read_text())
    tuning["trainer"]["max_epochs"] = 2
    Path("demo").mkdir()
    Path("demo/finetune.yaml").write_text(yaml.safe_dump(tuning))  # a file of that name comes first
    assert main(["demo", "--out", "d", "--clips", "40", "--epochs", "1"]) == 0
    summary = json.loads(Path("d/results.json").read_text())
    starts = [(result["task"], result["start"]) for result in summary["results"]]
    assert len(starts) == len(set(starts)) == 7
    for result in summary["results"]:
        assert 0 <= result["value"] <= 1 and result["chance"] == 0.1
    page = Path("d/report.html").read_text()
    assert all(f"linear probe, {modality}, 75 labels a class" in page for modality in ("audio", "video"))
    printed = capsys.readouterr().out
    assert printed.count("\n$ diffmavil ") == 10
    assert "open d/report.html" in printed


def test_the_baseline_is_logistic_regression_on_means_and_deviations(made_clips: Path) -> None:
    data = made_data(made_clips, batch_size=7)
    data.setup("test")
    rows = {}
    for split in ("train", "test"):
        parts = [data.prepare(raw, "cpu") for raw in data.eval_dataloader(data.split_indices[split])]
        spectrograms = np.concatenate([part.audio.numpy() for part in parts])[:, 0]
        labels = np.concatenate([part.labels.numpy() for part in parts])
        rows[split] = np.concatenate([spectrograms.mean(1), spectrograms.std(1)], axis=1), labels
    scale = rows["train"][0].mean(0), rows["train"][0].std(0)
    for c in (1e-4, 1e-2, 1.0):
        model = LogisticRegression(C=c, max_iter=5000).fit((rows["train"][0] - scale[0]) / scale[1], rows["train"][1])
        expected = float(model.score((rows["test"][0] - scale[0]) / scale[1], rows["test"][1]))
        assert log_mel_baseline(data, [c]) == pytest.approx(expected)


@pytest.mark.parametrize(("flags", "message"), [(["--clips", "50"], "positive multiple of 40, got 50")])
def test_refuses_numbers_outside_their_range(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err
