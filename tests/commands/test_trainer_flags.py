"""Every number of Lightning's trainer, found by its signature: a bad one is refused by it or by us, with its key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from command_config import Run
from hostile_calls import FLAGS_MAY
from number_keys import trainer_keys

from diffmavil.commands.trainer_flags import blamed, check_flags

BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-1": -1, "0": 0, "0.0": 0.0, "1e30": 1e30, "huge": 10**30}
MAY = FLAGS_MAY | {"0.0": FLAGS_MAY["0"]}
TYPES_ALONE = {"max_time"}
"""Seconds and the like in a text or a dict."""


@pytest.mark.parametrize("bad", BAD)
def test_every_number_of_the_trainer(bad: str) -> None:
    faults = []
    for name, _ in trainer_keys():
        if name in TYPES_ALONE:
            continue
        try:
            check_flags({name: BAD[bad]})
        except ValueError as error:
            if name in MAY.get(bad, "").split():
                faults.append(f"{name} = {bad} is refused: {error}")
            elif not str(error).startswith(f"trainer.{name} must be "):
                faults.append(f"{name} = {bad} is not named: {error}")
        else:
            if name not in MAY.get(bad, "").split():
                faults.append(f"{name} = {bad} is taken")
    assert not faults, "\n".join(faults)


def test_what_is_in_use_is_let_by() -> None:
    for flags in (
        {"limit_train_batches": 0.5, "val_check_interval": 0.25, "overfit_batches": 2, "fast_dev_run": True},
        {"max_epochs": -1, "max_steps": -1, "devices": -1, "num_sanity_val_steps": -1, "gradient_clip_val": 0},
        {"max_epochs": 20, "max_steps": 10**6, "devices": [0, 1], "val_check_interval": 1000, "max_time": None},
    ):
        check_flags(flags)
    check_flags({"limit_val_batches": 1.0, "devices": "auto", "limit_test_batches": None})


def test_the_trainer_blames_a_flag() -> None:
    for flags, said in (
        ({"accelerator": "gpu"}, "trainer.accelerator cannot be gpu: "),
        ({"accelerator": "abacus"}, "accelerator='abacus'"),
        ({"strategy": "no_such"}, "no_such"),
    ):
        if flags["accelerator" if "accelerator" in flags else "strategy"] == "gpu" and _has_gpu():
            continue
        with pytest.raises(Exception) as refused:  # noqa: B017, PT011 (Lightning raises what comes to hand)
            L.Trainer(**flags)  # type: ignore[arg-type]
        assert said in blamed(refused.value, flags)
    assert blamed(ValueError("bad"), {"accelerator": "cpu"}) == "trainer (accelerator: cpu): bad"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be at least 1, got 0"),
        ("--trainer.val_check_interval=0.0", "trainer.val_check_interval must be in (0, 1], got 0.0"),
    ],
)
def test_it_is_one_line(flag: str, said: str, run: Run) -> None:
    code, _, err = run("fit", "--config", "mine.yaml", flag)
    assert (code, err) == (2, f"diffmavil: error: {said}\n")


def test_null_is_refused_where_a_file_has_it(run: Run) -> None:
    given: dict[str, Any] = {
        "data.modalities": "data: {modalities: null}",
        "model.model.size": "model: {init_args: {model: {init_args: {size: null}}}}",
        "trainer.callbacks.margin": "trainer: {callbacks: [{class_path: LargestBatch, init_args: {margin: null}}]}",
    }
    for key, content in given.items():
        Path("null.yaml").write_text(content)
        code, _, err = run("fit", "--config", "mine.yaml", "--config", "null.yaml")
        assert code == 2 and err.splitlines()[-1] == f"diffmavil: error: {key} must not be null", err
