"""What ``diffmavil predict`` leaves behind: a file of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from diffmavil.data import ClipDataModule
from diffmavil.modules import FineTuneModule
from diffmavil.run_folder import free_number, numbered


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.npz`` into the run folder; beside one that is there, ``predictions-v1.npz`` and so on.

    It holds ``path``, ``start_s`` and ``end_s`` ``(N,)`` of each clip that could be read (NaN: the file's own start or
    end), and what the module predicts of it: ``audio`` and ``video`` features ``(N, D)`` of a pretrained model, or
    ``probabilities`` ``(N, K)`` of a classifier with the names of its ``classes`` ``(K,)``. Of several processes each
    writes its part, ``predictions_rank0.npz`` and so on.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Join the batches and write them."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        world = trainer.world_size
        names = ["predictions.npz"] if world == 1 else [f"predictions_rank{rank}.npz" for rank in range(world)]
        number = trainer.strategy.broadcast(free_number(folder, names))
        if not predictions:
            raise ValueError("predict needs a batch of clips, got none")
        arrays: dict[str, Any] = {
            name: _joined([batch[name].cpu() for batch in predictions]) for name in predictions[0]
        }
        data: ClipDataModule = trainer.datamodule  # type: ignore[attr-defined]
        clips = [data.clips[int(index)] for index in arrays.pop("index")]
        arrays["path"] = np.array([clip.path for clip in clips])
        arrays["start_s"] = np.array([np.nan if clip.start_s is None else clip.start_s for clip in clips])
        arrays["end_s"] = np.array([np.nan if clip.end_s is None else clip.end_s for clip in clips])
        if isinstance(pl_module, FineTuneModule):
            arrays["classes"] = np.array(pl_module.classes)
        name = names[trainer.global_rank]
        path = folder / numbered(name, number)
        np.savez(path, **arrays)
        rank_zero_info(f"{len(clips)} clips in {path}" + f"; {name} there is an earlier command's" * (number > 0))


def _joined(parts: list[Tensor]) -> NDArray[Any]:
    whole = torch.cat(parts)
    return (whole.float() if whole.is_floating_point() else whole).numpy()  # NumPy knows no bfloat16
