"""A linear probe: what a linear classifier reads from a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from einops import rearrange
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffmavil import keys
from diffmavil.checks import check_number, check_seed
from diffmavil.data import ClipDataModule
from diffmavil.models import MAViL
from diffmavil.models.origin import encoders_for
from diffmavil.modules.attached import data_of
from diffmavil.modules.window_note import note_other_window
from diffmavil.nn.encoder import Encoder
from diffmavil.ops.windows import first_windows, mean_of_windows
from diffmavil.probing import linear_probe
from diffmavil.types import Batch, Modalities

Pooling = Literal["mean", "time"]


class LinearProbe(L.LightningModule):
    """Fit a linear classifier on the frozen features of the train split and score it on the test split.

    Run with ``diffmavil test``. The data module must serve both splits (``data.test_splits: [train, test]``). Where the
    clips carry folds, each fold is the test split once. The classifier's regularisation is chosen on a held-out fifth
    of the train split.

    Args:
        backbone: The model whose encoders are probed; ``None`` builds it as ``checkpoint`` says.
        checkpoint: Pretraining checkpoint; ``None`` probes ``backbone`` untrained.
        modalities: Streams to read: audio_video (features end to end), audio or video.
        layer: Read the encoder after so many blocks, through its final norm; none for all of them.
        pooling: ``mean`` over all patches, or over ``time`` only, keeping the axis of frequency or space.
        inverse_regularisations: Values of C to choose from, above 0; the smaller, the stronger the L2 penalty.
        seed: Draws the held-out part.

    Raises:
        ValueError: If ``layer`` is outside the encoder's depth, or a number outside its range.
        CheckpointError: If the checkpoint is not ours, not of pretraining, or of another shape.
    """

    def __init__(
        self,
        *,
        backbone: MAViL | None = None,
        checkpoint: Path | None = None,
        modalities: Modalities = "audio",
        layer: int | None = None,
        pooling: Pooling = "mean",
        inverse_regularisations: list[float] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0],  # noqa: B006 (config schema)
        seed: int = 0,
    ) -> None:
        super().__init__()
        backbone, self._pretrained = encoders_for(backbone, checkpoint, modalities)
        self.checkpoint = checkpoint
        depth = len(backbone.audio_encoder.transformer.blocks)
        if layer is not None and not 1 <= layer <= depth:
            raise ValueError(f"layer must be between 1 and the encoder's depth {depth}, got {layer}")
        if not inverse_regularisations:
            raise ValueError("inverse_regularisations must hold at least one value, got none")
        for value in inverse_regularisations:
            check_number("inverse_regularisations", value, above=0, limit=1e12)
        check_seed("seed", seed)
        self.audio_encoder = backbone.audio_encoder if modalities != "video" else None
        self.video_encoder = backbone.video_encoder if modalities != "audio" else None
        self.layer, self.pooling = layer, pooling
        self.inverse_regularisations, self.seed = inverse_regularisations, seed
        self._collected: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Say where the data's window is another than that of the pretraining."""
        if self.checkpoint is not None:
            note_other_window(data_of(self), self._pretrained, f"checkpoint {self.checkpoint}")

    def features(self, batch: Batch) -> Tensor:
        """Features ``(B, D')`` of the streams that are probed, end to end."""
        parts = []
        if self.audio_encoder is not None:
            parts.append(self._pooled("audio", self.audio_encoder, batch.audio, batch.audio_frames))
        if self.video_encoder is not None:
            parts.append(self._pooled("video", self.video_encoder, batch.video, batch.video_frames))
        return torch.cat(parts, dim=1)

    def _pooled(self, name: str, encoder: Encoder, x: Tensor | None, num_frames: Tensor | None) -> Tensor:
        if x is None:
            raise ValueError(f"data.modalities must include {name} to probe it")
        patches = encoder.patchify(x, num_frames)
        tokens = encoder(patches, patches.all_ids, patches.valid, self.layer)
        by_time = rearrange(tokens, "b (t s) d -> b t s d", t=patches.grid[0])
        if patches.valid is None:
            pooled: Tensor = by_time.mean(1)
        else:
            real = rearrange(patches.valid, "b (t s) -> b t s", t=patches.grid[0])[:, :, 0].to(tokens.dtype)
            pooled = (by_time * real[:, :, None, None]).sum(1) / real.sum(1)[:, None, None]
        return pooled.mean(1) if self.pooling == "mean" else rearrange(pooled, "b s d -> b (s d)")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect features."""
        if batch.labels is None:
            raise ValueError("the clips must have labels for a probe, got none: set data.source.label_column")
        if len(batch.index):
            first = first_windows(batch.index)
            features = mean_of_windows(self.features(batch).float(), batch.index)
            self._collected.append((batch.index[first].cpu(), features.cpu(), batch.labels[first].cpu()))

    def on_test_epoch_end(self) -> None:
        """Fit and score, for every fold where there are folds."""
        if self.trainer.world_size > 1:
            raise ValueError(f"trainer.devices must be 1 for a linear probe, got {self.trainer.world_size}")
        if not self._collected:
            raise ValueError("a linear probe needs clips that can be read, got none")
        data: ClipDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        index, features, labels = (torch.cat(part).numpy() for part in zip(*self._collected, strict=True))
        self._collected.clear()
        splits = np.array([data.clips[i].split for i in index])
        folds = np.array([-1 if (fold := data.clips[i].fold) is None else fold for i in index])
        metric = keys.MAP if data.multi_label else keys.ACCURACY
        cross_validated = (folds >= 0).all() and not (splits == "test").any()
        tests = {f"_fold{k}": folds == k for k in np.unique(folds)} if cross_validated else {"": splits == "test"}
        scores = []
        for suffix, test in tests.items():
            train = ~test if cross_validated else splits == "train"
            probe = linear_probe(
                (features[train], labels[train]),
                (features[test], labels[test]),
                inverse_regularisations=self.inverse_regularisations,
                seed=self.seed,
            )
            clips = f"{train.sum()} clips to fit, {test.sum()} to test, {len(data.classes)} classes"
            chosen = f"C {probe.inverse_regularisation:g}"
            rank_zero_info(f"linear probe{suffix}: {metric} {probe.score:.4f} at {chosen} ({clips})")
            scores.append(probe.score)
            if suffix:
                self.log(f"test/{metric}{suffix}", probe.score)
        self.log(f"test/{metric}", float(np.mean(scores)))
