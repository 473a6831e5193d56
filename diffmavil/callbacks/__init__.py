"""Callbacks: the mask-ratio curriculum, batches that follow it or fill a GPU, the accounting, and pictures."""

from diffmavil.callbacks.adaptive_batch_size import AdaptiveBatchSize
from diffmavil.callbacks.compute_accounting import ComputeAccounting
from diffmavil.callbacks.largest_batch import LargestBatch
from diffmavil.callbacks.mask_ratio_curriculum import MaskRatioCurriculum
from diffmavil.callbacks.metrics_writer import MetricsWriter
from diffmavil.callbacks.prediction_writer import PredictionWriter
from diffmavil.callbacks.reconstruction_images import ReconstructionImages

__all__ = [
    "AdaptiveBatchSize",
    "ComputeAccounting",
    "LargestBatch",
    "MaskRatioCurriculum",
    "MetricsWriter",
    "PredictionWriter",
    "ReconstructionImages",
]
