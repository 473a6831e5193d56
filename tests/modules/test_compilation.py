"""Compiled training under a curriculum: as many steps, the same losses, and nothing compiled anew for a new ratio.

In processes of their own: the checks of shapes that the tests put into every function are not for torch.compile.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small import learner, made_data, trainer

from diffmavil import keys
from diffmavil.callbacks import MaskRatioCurriculum
from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.modules.compilation import CompiledBlocks
from diffmavil.schedules import Schedule


class _Record(L.Callback):
    """Loss and ratios of each step, and what had been compiled by the end of each epoch."""

    def __init__(self) -> None:
        self.said: dict[str, list[Any]] = {"losses": [], "ratios": [], "compilations": []}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.said["losses"].append(outputs["loss"].item())
        if isinstance(pl_module, PretrainModule):
            self.said["ratios"].append((pl_module.audio_mask_ratio, pl_module.video_mask_ratio))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.compiled is not None:
            self.said["compilations"].append(pl_module.compiled.count)


def curriculum_in_eager_and_compiled(made_clips: Path, folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name in ("eager", "compiled"):
        module = PretrainModule(model=learner(), lr=1e-3)
        if name == "compiled":
            module.compiled = CompiledBlocks(module, backend="aot_eager")  # all of it but the C++ compiler
        curriculum = MaskRatioCurriculum(
            audio=Schedule(start=0.75, end=0.2), video=Schedule(start=0.7, end=0.4), per="step"
        )
        record = _Record()
        run = trainer(folder / name, callbacks=[curriculum, record])
        data = made_data(made_clips, clip_s=1.28, image_size=64)
        run.fit(module, data)
        (checkpoint,) = (folder / name).rglob("*.ckpt")
        weights = torch.load(checkpoint, weights_only=True)["state_dict"]
        logged = float(run.callback_metrics.get(keys.COMPILATIONS, 0))
        said[name] = {**record.said, "weights": list(weights), "logged": logged}
    return said


def fine_tuned_with_the_cpp_compiler(made_clips: Path, folder: Path) -> dict[str, Any]:
    module = FineTuneModule(backbone=learner(), num_classes=10, modalities="audio", compile=True)
    record = _Record()
    run = trainer(folder, max_epochs=2, callbacks=[record], limit_train_batches=2, enable_checkpointing=False)
    run.fit(module, made_data(made_clips, modalities="audio"))
    return record.said


def _in_a_process(what: Any, made_clips: Path, folder: Path) -> Any:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, __file__, what.__name__, str(made_clips), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said.json").read_text())


def test_a_new_ratio_compiles_nothing_anew(made_clips: Path, tmp_path: Path) -> None:
    said = _in_a_process(curriculum_in_eager_and_compiled, made_clips, tmp_path)
    eager, compiled = said["eager"], said["compiled"]
    assert len({tuple(pair) for pair in compiled["ratios"]}) == 12, "a curriculum by step: a ratio for each of them"
    first, last = compiled["compilations"]
    assert 1 <= first == last == compiled["logged"] < 12
    assert compiled["losses"] == pytest.approx(eager["losses"], rel=1e-5)
    assert compiled["weights"] == eager["weights"]


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("c++")), reason="torch.compile needs a C++ compiler")
def test_the_setting_compiles_with_the_cpp_compiler(made_clips: Path, tmp_path: Path) -> None:
    said = _in_a_process(fine_tuned_with_the_cpp_compiler, made_clips, tmp_path)
    first, last = said["compilations"]
    assert 1 <= first == last <= 2, "all blocks share what is compiled"
    assert len(said["losses"]) == 4 and all(0 < loss < 5 for loss in said["losses"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[3])
    answer = globals()[sys.argv[1]](Path(sys.argv[2]), folder)
    (folder / "said.json").write_text(json.dumps(answer))
