"""The values that travel between the data path, the models and the losses.

One legend of axes serves the whole package:

    B clips         C channels       T spectrogram frames   L pictures (video frames)   H W pixels
    F mel bins      S audio samples  N patches of a clip = V visible + M masked
    P values a patch                 D width of an embedding                            K classes
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Bool, Float, Int, Int16, UInt8
from torch import Tensor

Modality = Literal["audio", "video"]
"""One of the two streams of a clip."""

Modalities = Literal["audio_video", "audio", "video"]
"""Which streams a data set is read for and a model is built for."""


@dataclass(frozen=True)
class Skip:
    """A clip that could not be read, and why.

    Args:
        index: Position of the clip in the data module's list of clips.
        path: The file.
        reason: One of the fixed reasons of ``diffmavil.data.errors.REASONS``.
        detail: What the reader said, in one line.
    """

    index: int
    path: str
    reason: str
    detail: str


@dataclass
class RawBatch:
    """What a data worker sends: as compact as it can be, no model input yet.

    Args:
        index: Position of each clip in the data module's list of clips.
        waveform: Mono audio, 16-bit, at the data module's sample rate; zeros after a clip's end.
        num_samples: Real samples of each clip.
        frames: Pictures, RGB, 8 bit, those of all clips end to end: of each clip L of H x W x C, cropped but not
            scaled, the last one repeated after the clip's end.
        frame_sizes: Height and width of each clip's pictures; not on the device, which would have to be asked.
        flipped: Clips whose pictures are to be mirrored.
        num_frames: Real frames of each clip.
        labels: Class ids (one label a clip), or 0/1 indicators (several labels a clip).
        silent: Windows in whose sound no sample differs from the others.
        still: Training windows of several pictures that do not differ.
        skips: Clips of this batch that could not be read.
        is_short: Whether no other clip could be read either, where one of those could not.
    """

    index: Int[Tensor, " B"]
    waveform: Int16[Tensor, "B S"] | None = None
    num_samples: Int[Tensor, " B"] | None = None
    frames: UInt8[Tensor, " V"] | None = None
    frame_sizes: list[tuple[int, int]] | None = None
    flipped: Bool[Tensor, " B"] | None = None
    num_frames: Int[Tensor, " B"] | None = None
    labels: Int[Tensor, " B"] | Float[Tensor, "B K"] | None = None
    silent: Bool[Tensor, " B"] | None = None
    still: Bool[Tensor, " B"] | None = None
    skips: list[Skip] = field(default_factory=list)
    is_short: bool = False

    def pin_memory(self) -> RawBatch:
        """Copy the tensors into page-locked memory, from which a GPU can fetch them while it computes."""
        pinned: dict[str, Any] = {
            name: value.pin_memory() if isinstance(value, Tensor) else value for name, value in vars(self).items()
        }
        return RawBatch(**pinned)


@dataclass
class Batch:
    """What a model reads, on its device.

    Args:
        index: Position of each clip in the data module's list of clips.
        audio: Normalised log-mel spectrogram.
        audio_frames: Real spectrogram frames of each clip; ``None`` when no clip is padded.
        video: Normalised pictures.
        video_frames: Real pictures of each clip; ``None`` when no clip is padded.
        labels: Class ids (one label a clip), or 0/1 indicators (several labels a clip).
    """

    index: Int[Tensor, " B"]
    audio: Float[Tensor, "B 1 T F"] | None = None
    audio_frames: Int[Tensor, " B"] | None = None
    video: Float[Tensor, "B C L H W"] | None = None
    video_frames: Int[Tensor, " B"] | None = None
    labels: Int[Tensor, " B"] | Float[Tensor, "B K"] | None = None


@dataclass
class Reconstruction:
    """One modality of one masked clip, as the decoder left it; M' patches are decoded (M' = M unless thinned).

    Args:
        prediction: What the decoder says of each decoded patch, in the units of the loss's target.
        target: The clean values of those patches.
        corrupted: What the decoder was shown in their place: the noised patches; ``None`` for mask tokens.
        timesteps: Diffusion step of each clip; ``None`` for mask tokens.
        ids_keep: Patches that the encoder saw.
        ids_decode: Patches that were decoded.
        valid: Which decoded patches are no padding; ``None`` when all are real.
    """

    prediction: Float[Tensor, "B M P"]
    target: Float[Tensor, "B M P"]
    corrupted: Float[Tensor, "B M P"] | None
    timesteps: Int[Tensor, " B"] | None
    ids_keep: Int[Tensor, "B V"]
    ids_decode: Int[Tensor, "B M"]
    valid: Bool[Tensor, "B M"] | None


@dataclass
class ModelOutput:
    """What a masked audio-video learner returns; the losses are computed from it elsewhere.

    Args:
        audio: Reconstruction of the spectrogram.
        video: Reconstruction of the frames.
        audio_embeddings: Mean of the audio encoder's output over real visible patches, one entry a view.
        video_embeddings: The same of the video encoder.
    """

    audio: Reconstruction
    video: Reconstruction
    audio_embeddings: list[Float[Tensor, "B D"]]
    video_embeddings: list[Float[Tensor, "B D"]]
