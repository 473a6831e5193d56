"""Supervised fine-tuning of a pretrained learner's encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision

from diffmavil import keys
from diffmavil.checks import check_number
from diffmavil.flops import classifier_flops
from diffmavil.models import Classifier, MAViL
from diffmavil.models.checkpoints import MARK, CheckpointError
from diffmavil.models.origin import Origin, encoders_for
from diffmavil.modules.attached import data_of
from diffmavil.modules.base import TrainedModule
from diffmavil.modules.window_note import note_other_window
from diffmavil.nn.augment import Mixup, SpecAugment
from diffmavil.ops.windows import first_windows, mean_of_windows
from diffmavil.optim import check_steps, parameter_groups
from diffmavil.types import Batch, Modalities


class FineTuneModule(TrainedModule):
    """Fine-tune for classification: one label a clip (cross-entropy, accuracy) or several (BCE, mAP).

    Args:
        num_classes: Number of classes K of the data.
        backbone: The model whose encoders are fine-tuned; ``None`` builds it as ``checkpoint`` says.
        modalities: Streams to classify from: audio_video, audio or video.
        multi_label: Whether a clip may have several labels; as in the data.
        checkpoint: Pretraining checkpoint to start from; ``None`` trains ``backbone`` from scratch.
        drop_path_rate: Stochastic depth of the encoders' last block, in [0, 1); ``None`` leaves it as built.
        lr: Peak learning rate of the top layer, above 0.
        weight_decay: AdamW's weight decay of matrices, at least 0.
        betas: AdamW's decay rates of the first and the second moment.
        layer_decay: Factor on the learning rate from a layer to the one before it, in (0, 1].
        head_lr_scale: Factor on the head's learning rate, above 0.
        warmup: Share of the run in which the learning rate rises, in [0, 1).
        lr_end: Learning rate at the end over the peak, in [0, 1].
        mixup_alpha: Parameter of mixup's Beta distribution; 0 for no mixup.
        label_smoothing: Share of each target spread over all classes, in [0, 1).
        token_mask_ratio: Share of the patches left out in training, in [0, 1).
        freq_mask_bins: SpecAugment's greatest band, in mel bins; 0 for none.
        time_mask_frames: SpecAugment's greatest stretch, in spectrogram frames; 0 for none.
        seed: With epoch, step and rank it fixes all that is random in a step.
        compile: Train with compiled transformer blocks (torch.compile): a slow first epoch, faster ones after it.
        halved: Put each training batch through the network in two halves: half the memory for activations, more time,
            and the same objective (with other random draws). A run that runs out of memory comes to it by itself.

    Source: the recipes of AudioMAE (arXiv:2207.06405) and MAViL (arXiv:2212.08071).

    Raises:
        ValueError: If a value is outside its range.
        CheckpointError: If the checkpoint is not ours, not of pretraining, or of another shape.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: MAViL | None = None,
        modalities: Modalities = "audio_video",
        multi_label: bool = False,
        checkpoint: Path | None = None,
        drop_path_rate: float | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        layer_decay: float = 0.75,
        head_lr_scale: float = 1.0,
        warmup: float = 0.1,
        lr_end: float = 0.0,
        mixup_alpha: float = 0.0,
        label_smoothing: float = 0.0,
        token_mask_ratio: float = 0.0,
        freq_mask_bins: int = 0,
        time_mask_frames: int = 0,
        seed: int = 0,
        compile: bool = False,
        halved: bool = False,
    ) -> None:
        super().__init__(warmup=warmup, lr_end=lr_end, betas=betas, seed=seed, compile=compile, halved=halved)
        check_number("label_smoothing", label_smoothing, at_least=0, below=1)
        check_number("mixup_alpha", mixup_alpha, at_least=0, limit=1e6)
        check_steps(lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, head_lr_scale=head_lr_scale)
        backbone, self._pretrained = encoders_for(backbone, checkpoint, modalities)
        self.origin, self.checkpoint = Origin.of(backbone, modalities), checkpoint
        if drop_path_rate is not None:
            for encoder in (backbone.audio_encoder, backbone.video_encoder):
                encoder.transformer.set_drop_path_rate(drop_path_rate)
        self.depth = len(backbone.audio_encoder.transformer.blocks)
        self.model = Classifier(
            backbone=backbone,
            modalities=modalities,
            num_classes=num_classes,
            token_mask_ratio=token_mask_ratio,
        )
        self.spec_augment = SpecAugment(freq_mask_bins=freq_mask_bins, time_mask_frames=time_mask_frames)
        self.mixup = Mixup(alpha=mixup_alpha, num_classes=num_classes) if mixup_alpha > 0 else None
        self.num_classes, self.multi_label, self.label_smoothing = num_classes, multi_label, label_smoothing
        self.lr, self.weight_decay = lr, weight_decay
        self.layer_decay, self.head_lr_scale = layer_decay, head_lr_scale
        self.classes: list[str] = []
        """Names of the classes that were learned, in the order of the scores; empty before."""
        metric: Metric
        if multi_label:
            self.metric_name = keys.MAP
            metric = MultilabelAveragePrecision(num_labels=num_classes, average="macro")
        else:
            self.metric_name = keys.ACCURACY
            metric = MulticlassAccuracy(num_classes=num_classes, average="micro")
        metrics = MetricCollection({self.metric_name: metric})
        self.val_metrics, self.test_metrics = metrics.clone(prefix="val/"), metrics.clone(prefix="test/")

    def setup(self, stage: str) -> None:
        """Compare with the data; say where its window is another than that of the pretraining.

        Raises:
            ValueError: If the data has another number of classes, or another number of labels a clip.
        """
        if self.checkpoint is not None and stage == "fit":
            note_other_window(data_of(self), self._pretrained, f"checkpoint {self.checkpoint}")
        data = data_of(self)
        if data is None or stage == "predict":
            return
        if not data.classes:
            raise ValueError("the clips must have labels for fine-tuning, got none: set data.source.label_column")
        if len(data.classes) != self.num_classes:
            raise ValueError(f"num_classes must be that of the data, {len(data.classes)}, got {self.num_classes}")
        if data.multi_label != self.multi_label:
            raise ValueError(f"multi_label must be that of the data, {data.multi_label}, got {self.multi_label}")
        if stage == "fit":
            self.classes = list(data.classes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the names of the classes too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[MARK]["classes"] = self.classes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit, or one of other classes than the data's.

        Raises:
            CheckpointError: If so.
        """
        super().on_load_checkpoint(checkpoint)
        self.classes = checkpoint[MARK].get("classes", [])
        data = data_of(self)
        if data is None or self.trainer.predicting or not self.classes:
            return
        if len(self.classes) != len(data.classes):
            count = f"{len(self.classes)} classes, not {len(data.classes)}"
            raise CheckpointError(f"the checkpoint does not fit the data: it has {count}")
        for learned, given in zip(self.classes, data.classes, strict=True):
            if learned != given:
                raise CheckpointError(f"the checkpoint does not fit the data: it has a class {learned}, not {given}")

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the classes, before softmax or sigmoid, in float32 whatever the network computes in."""
        scores: Tensor = self.put_through(self.model, batch)
        return scores.float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Augment and learn."""
        if batch.audio is not None:
            batch.audio = self.spec_augment(batch.audio)
        if self.mixup is not None:
            batch = self.mixup(batch)
        loss = self._loss(self(batch), batch)
        self.log(f"train/{keys.LOSS}", loss, batch_size=len(batch.index), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score held-out clips."""
        self._evaluate(batch, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the test split."""
        self._evaluate(batch, "test", self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Probabilities ``(B, K)`` of the classes, and ``index`` ``(B,)``."""
        probabilities = mean_of_windows(self._probabilities(self(batch)), batch.index)
        return {"index": batch.index[first_windows(batch.index)], "probabilities": probabilities}

    def _probabilities(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() if self.multi_label else scores.softmax(-1)

    def _loss(self, scores: Tensor, batch: Batch) -> Tensor:
        assert batch.labels is not None
        if self.multi_label:
            # label smoothing's uniform share of two outcomes: present or not
            targets = batch.labels * (1 - self.label_smoothing) + self.label_smoothing / 2
            return binary_cross_entropy_with_logits(scores, targets)
        return cross_entropy(scores, batch.labels, label_smoothing=self.label_smoothing)

    def _evaluate(self, batch: Batch, stage: str, metrics: MetricCollection) -> None:
        if not self.takes_part(batch):
            return
        scores = self(batch)
        loss = self._loss(scores, batch)
        assert batch.labels is not None
        probabilities = mean_of_windows(self._probabilities(scores), batch.index)
        metrics.update(probabilities, batch.labels[first_windows(batch.index)].long())
        self.log_means({f"{stage}/{keys.LOSS}": loss}, batch)
        self.log_dict(metrics, batch_size=len(batch.index), prog_bar=True)

    def forward_flops(
        self, audio_size: tuple[int, int] | None, video_size: tuple[int, int, int] | None
    ) -> dict[str, int]:
        """Forward FLOPs of one training clip by part."""
        return classifier_flops(self.model, audio_size=audio_size, video_size=video_size)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Smaller steps for earlier layers, ``head_lr_scale`` times larger ones for the head."""
        return parameter_groups(
            self.model,
            lr=self.lr,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            depth=self.depth,
            head_lr_scale=self.head_lr_scale,
        )
