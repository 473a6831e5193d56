"""Self-supervised pretraining: masked reconstruction of both streams, and contrast between them."""

from __future__ import annotations

from typing import Any, Final

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffmavil import keys
from diffmavil.checks import check_number
from diffmavil.flops import learner_flops
from diffmavil.losses import info_nce, reconstruction_loss
from diffmavil.models import MAViL
from diffmavil.models.checkpoints import MARK
from diffmavil.models.origin import Origin
from diffmavil.models.vit_weights import load_vit
from diffmavil.modules.base import TrainedModule
from diffmavil.ops.patches import masked_mean
from diffmavil.ops.windows import first_windows, mean_of_windows
from diffmavil.optim import check_steps, parameter_groups
from diffmavil.types import Batch, ModelOutput

MASK_RATIOS: Final = "mask_ratios"
"""Where a checkpoint keeps the ratios to which a curriculum had come."""


class PretrainModule(TrainedModule):
    """Pretrain a masked audio-video learner.

    The objective is the sum of two reconstruction losses, ``inter_weight`` times the contrast of sound and picture, and
    ``intra_weight`` times the contrast of two masked views of each. To put in an objective of your own, subclass and
    override :meth:`losses`.

    Args:
        model: The learner: a builder of ``diffmavil.models`` (mavil, diffmavil, diffmavil_efficient) or your own.
        audio_mask_ratio: Share of the spectrogram's patches hidden, in [0, 1), where no curriculum says otherwise.
        video_mask_ratio: Share of the video's patches hidden, in [0, 1), where no curriculum says otherwise.
        inter_weight: Weight of the contrast between sound and picture, at least 0.
        inter_temperature: Its temperature, above 0.
        intra_weight: Weight of the contrast between two views of one stream, at least 0; at 0 one view is encoded.
        intra_temperature: Its temperature, above 0.
        lr: Peak learning rate, above 0. The papers' 2e-4 is per 256 clips of the global batch.
        weight_decay: AdamW's weight decay of matrices, at least 0.
        betas: AdamW's decay rates of the first and the second moment.
        warmup: Share of the run in which the learning rate rises, in [0, 1).
        lr_end: Learning rate at the end over the peak, in [0, 1].
        audio_weights: Initialise the audio encoder with a ViT: ``timm:NAME`` or a file of timm, MAE, BEiT, VideoMAE.
        video_weights: Initialise the video encoder likewise.
        seed: With epoch, step and rank it fixes all masks and noise of a step.
        compile: Train with compiled transformer blocks (torch.compile): a slow first epoch, faster ones after it. A new
            mask ratio or batch size brings no new compilation.
        num_masks: Times that a training step masks, noises and reconstructs each clip, 1 to 1000 (repeated sampling):
            decoding a clip, which is what starves a GPU, pays off so many times. The objective is their mean.
        halved: Put each training batch through the network in two halves: half the memory for activations, more time,
            and the same objective (with other random draws). A run that runs out of memory comes to it by itself.

    Source: MAViL, arXiv:2212.08071, section 3.1; DiffMAViL, arXiv:2310.03937.

    Raises:
        ValueError: If a value is outside its range.
    """

    def __init__(
        self,
        *,
        model: MAViL,
        audio_mask_ratio: float = 0.8,
        video_mask_ratio: float = 0.8,
        inter_weight: float = 0.1,
        inter_temperature: float = 0.1,
        intra_weight: float = 0.01,
        intra_temperature: float = 1.0,
        lr: float = 4e-4,
        weight_decay: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup: float = 0.2,
        lr_end: float = 0.0,
        audio_weights: str | None = None,
        video_weights: str | None = None,
        seed: int = 0,
        compile: bool = False,
        num_masks: int = 1,
        halved: bool = False,
    ) -> None:
        super().__init__(warmup=warmup, lr_end=lr_end, betas=betas, seed=seed, compile=compile, halved=halved)
        check_number("audio_mask_ratio", audio_mask_ratio, at_least=0, below=1)
        check_number("video_mask_ratio", video_mask_ratio, at_least=0, below=1)
        check_number("num_masks", num_masks, at_least=1, limit=1000)
        check_number("inter_weight", inter_weight, at_least=0, limit=1e6)
        check_number("intra_weight", intra_weight, at_least=0, limit=1e6)
        check_number("inter_temperature", inter_temperature, above=0, limit=1e6)
        check_number("intra_temperature", intra_temperature, above=0, limit=1e6)
        check_steps(lr=lr, weight_decay=weight_decay)
        self.model = model
        self.origin = Origin.of(model)
        self.audio_mask_ratio, self.video_mask_ratio = audio_mask_ratio, video_mask_ratio
        self._configured_ratios = audio_mask_ratio, video_mask_ratio
        self.inter_weight, self.inter_temperature = inter_weight, inter_temperature
        self.intra_weight, self.intra_temperature = intra_weight, intra_temperature
        self.lr, self.weight_decay = lr, weight_decay
        self.num_masks = num_masks
        for encoder, weights in ((model.audio_encoder, audio_weights), (model.video_encoder, video_weights)):
            if weights is not None:
                rank_zero_info(f"{weights}: {load_vit(encoder, weights)}")

    @property
    def num_views(self) -> int:
        """Masked views of each clip that are encoded."""
        return 2 if self.intra_weight > 0 else 1

    def forward(self, batch: Batch) -> ModelOutput:
        """Mask and reconstruct a batch at the ratios in force."""

        def network(part: Batch) -> ModelOutput:
            output: ModelOutput = self.model(
                part,
                audio_mask_ratio=self.audio_mask_ratio,
                video_mask_ratio=self.video_mask_ratio,
                num_views=self.num_views,
            )
            return output

        return self.put_through(network, batch)

    def losses(self, output: ModelOutput) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term of the objective, by the name it is logged under."""
        audio, video = output.audio, output.video
        terms = {
            keys.LOSS_RECONSTRUCTION_AUDIO: (
                1.0,
                reconstruction_loss(audio.prediction, audio.target, audio.valid, across_ranks=self.training),
            ),
            keys.LOSS_RECONSTRUCTION_VIDEO: (
                1.0,
                reconstruction_loss(video.prediction, video.target, video.valid, across_ranks=self.training),
            ),
        }
        sound, picture = output.audio_embeddings, output.video_embeddings
        if self.inter_weight > 0:
            contrast = self._contrast(sound[0], picture[0], self.inter_temperature)
            terms[keys.LOSS_INTER] = (self.inter_weight, contrast)
        if self.intra_weight > 0:
            for name, views in ((keys.LOSS_INTRA_AUDIO, sound), (keys.LOSS_INTRA_VIDEO, picture)):
                contrast = self._contrast(views[0], views[1], self.intra_temperature)
                terms[name] = (self.intra_weight, contrast)
        return terms

    @staticmethod
    def total(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
        """The objective: the weighted sum of its terms."""
        return torch.stack([weight * value for weight, value in terms.values()]).sum()

    def _contrast(self, x: Tensor, y: Tensor, temperature: float) -> Tensor:
        # in evaluation the ranks may hold different numbers of clips, or none
        return info_nce(x, y, temperature=temperature, across_ranks=self.training)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective on one batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective on held-out clips, at the ratios in force and with the same masks in every epoch."""
        if self.takes_part(batch):
            self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective on the test split."""
        if self.takes_part(batch):
            self._step(batch, "test")

    def _step(self, batch: Batch, stage: str) -> Tensor:
        repeats = [self.losses(self(batch)) for _ in range(self.num_masks if stage == "train" else 1)]
        terms = {
            name: (weight, torch.stack([repeat[name][1] for repeat in repeats]).mean())
            for name, (weight, _) in repeats[0].items()
        }
        loss = self.total(terms)
        logged = {f"{stage}/{name}": value for name, (_, value) in terms.items()}
        if stage != "train":
            self.log_means({**logged, f"{stage}/{keys.LOSS}": loss}, batch)
        else:
            self.log_dict(logged, batch_size=len(batch.index))
            self.log(f"{stage}/{keys.LOSS}", loss, batch_size=len(batch.index), prog_bar=True)
            self.log(keys.AUDIO_MASK_RATIO, self.audio_mask_ratio)
            self.log(keys.VIDEO_MASK_RATIO, self.video_mask_ratio)
        return loss

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Mean-pooled encoder outputs, nothing hidden: ``audio`` and ``video`` ``(B, D)``, and ``index`` ``(B,)``.

        Of a clip with several windows, the mean over them.
        """
        result = {"index": batch.index[first_windows(batch.index)]}
        streams = (
            ("audio", self.model.audio_encoder, batch.audio, batch.audio_frames),
            ("video", self.model.video_encoder, batch.video, batch.video_frames),
        )
        for name, encoder, x, num_frames in streams:
            if x is not None:
                patches = encoder.patchify(x, num_frames)
                tokens = encoder(patches, patches.all_ids, patches.valid)
                result[name] = mean_of_windows(masked_mean(tokens, patches.valid), batch.index)
        return result

    def forward_flops(
        self, audio_size: tuple[int, int] | None, video_size: tuple[int, int, int] | None
    ) -> dict[str, int]:
        """Forward FLOPs of one training clip by part, at the ratios in force.

        Raises:
            ValueError: If the clips lack sound or pictures.
        """
        if audio_size is None or video_size is None:
            raise ValueError("pretraining needs clips with sound and pictures: data.modalities must be audio_video")
        flops = learner_flops(
            self.model,
            audio_size=audio_size,
            video_size=video_size,
            audio_mask_ratio=self.audio_mask_ratio,
            video_mask_ratio=self.video_mask_ratio,
            num_views=self.num_views,
        )
        return {part: self.num_masks * count for part, count in flops.items()}

    def on_train_start(self) -> None:
        """Let the ratios of the config stand, too; a curriculum sets them at every step."""
        super().on_train_start()
        self.audio_mask_ratio, self.video_mask_ratio = self._configured_ratios

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the ratios too, where a curriculum has moved them."""
        super().on_save_checkpoint(checkpoint)
        ratios = self.audio_mask_ratio, self.video_mask_ratio
        if ratios != self._configured_ratios:
            checkpoint[MARK][MASK_RATIOS] = list(ratios)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit; take over the ratios to which a curriculum had come.

        Raises:
            CheckpointError: If it does not fit.
        """
        super().on_load_checkpoint(checkpoint)
        if MASK_RATIOS in checkpoint[MARK]:
            self.audio_mask_ratio, self.video_mask_ratio = checkpoint[MARK][MASK_RATIOS]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters at one step size."""
        return parameter_groups(self.model, lr=self.lr, weight_decay=self.weight_decay)
