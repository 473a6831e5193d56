"""The examples run from the command line that each of them names."""

from __future__ import annotations

import csv
import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import AUDIO_SIZE, VIDEO_SIZE, batch

from diffmavil import cli
from diffmavil.flops import learner_flops

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``python -m diffmavil`` has it."""
    monkeypatch.syspath_prepend(ROOT)


def command(path: Path) -> list[str]:
    """The arguments after ``diffmavil`` in the command line of an example's docstring."""
    (line,) = (line for line in path.read_text().splitlines() if "python -m diffmavil" in line)
    return shlex.split(line)[3:]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains_for_two_steps(
    path: Path, made_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (made_clips / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    listed = [{"path": str(made_clips / row["path"]), "label": row["label"]} for row in rows]
    (tmp_path / "a.json").write_text(json.dumps(listed))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny(made_clips)))
    monkeypatch.chdir(tmp_path)
    args = command(path)
    place = args.index("pretrain.yaml") + 1
    assert cli.main(["--debug", *args[:place], "--config", "tiny.yaml", *args[place:]]) == 0
    compute = json.loads((tmp_path / "compute.json").read_text())
    assert compute["steps"] == 2
    assert compute["training_flops"] > 0


def tiny(made_clips: Path) -> dict[str, Any]:
    """What makes pretrain.yaml small."""
    return {
        "model": {"init_args": {"model": {"init_args": {"size": "nano"}}}},
        "data": {
            "source": {"init_args": {"root": str(made_clips)}},
            "batch_size": 4,
            "num_workers": 0,
            "clip_s": AUDIO_SIZE[0] / 100,
            "num_mel_bins": AUDIO_SIZE[1],
            "num_frames": VIDEO_SIZE[0],
            "fps": 10.0,
            "image_size": VIDEO_SIZE[1],
        },
        "trainer": {
            "accelerator": "cpu",
            "precision": "32-true",
            "max_epochs": 1,
            "limit_train_batches": 2,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "ComputeAccounting"}],
        },
    }


def test_the_objective_has_the_terms_that_the_example_adds() -> None:
    from diffmavil.models import diffmavil
    from examples.own_objective import VariancePretrainModule, variance_loss

    module = VariancePretrainModule(model=diffmavil(size="nano"))
    terms = module.losses(module(batch()))
    weight, value = terms["loss_variance_audio"]
    assert weight == 0.04 and value.requires_grad
    assert variance_loss(torch.ones(4, 8)).item() == pytest.approx(0.99)
    assert variance_loss(torch.tensor([[-2.0], [2.0]])).item() == 0


def test_the_decoders_flops_are_what_a_counter_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from examples.own_decoder import diffmavil_cross_self

    ratios = {"audio_mask_ratio": 0.5, "video_mask_ratio": 0.5}
    model = diffmavil_cross_self(size="nano")
    parts = learner_flops(model, audio_size=AUDIO_SIZE, video_size=VIDEO_SIZE, **ratios)
    model.to("meta")
    inputs = batch(1)
    inputs.audio, inputs.video = (x.to("meta") for x in (inputs.audio, inputs.video) if x is not None)
    with FlopCounterMode(display=False) as counter:
        model(inputs, **ratios)
    assert sum(parts.values()) == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_the_decoder_survives_a_clip_of_which_nothing_is_hidden() -> None:
    from examples.own_decoder import diffmavil_cross_self

    model = diffmavil_cross_self(size="nano")
    inputs = batch(2, audio_frames=[48, 48], video_frames=[4, 1])
    output = model(inputs, audio_mask_ratio=0.5, video_mask_ratio=0.9)
    output.video.prediction.sum().backward()
    assert all(math.isfinite(float(p.grad.sum())) for p in model.parameters() if p.grad is not None)
