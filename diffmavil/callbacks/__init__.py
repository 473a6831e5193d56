"""Callbacks: the mask-ratio curriculum, the batch size that follows it, the accounting, and pictures to look at."""

from diffmavil.callbacks.adaptive_batch_size import AdaptiveBatchSize
from diffmavil.callbacks.compute_accounting import ComputeAccounting
from diffmavil.callbacks.mask_ratio_curriculum import MaskRatioCurriculum
from diffmavil.callbacks.prediction_writer import PredictionWriter
from diffmavil.callbacks.reconstruction_images import ReconstructionImages

__all__ = [
    "AdaptiveBatchSize",
    "ComputeAccounting",
    "MaskRatioCurriculum",
    "PredictionWriter",
    "ReconstructionImages",
]
