"""Names under which values are logged, in one place."""

from __future__ import annotations

LOSS = "loss"
LOSS_RECONSTRUCTION_AUDIO = "loss_reconstruction_audio"
LOSS_RECONSTRUCTION_VIDEO = "loss_reconstruction_video"
LOSS_INTER = "loss_contrastive_inter"
LOSS_INTRA_AUDIO = "loss_contrastive_intra_audio"
LOSS_INTRA_VIDEO = "loss_contrastive_intra_video"
ACCURACY = "accuracy"
MAP = "mAP"

LR = "schedule/lr"
AUDIO_MASK_RATIO = "schedule/audio_mask_ratio"
VIDEO_MASK_RATIO = "schedule/video_mask_ratio"
BATCH_SIZE = "schedule/batch_size"

CLIPS_PER_S = "throughput/clips_per_s"
TFLOPS_PER_S = "throughput/tflops_per_s"
MFU = "throughput/mfu"
PFLOPS_TOTAL = "compute/pflops_total"
COMPILATIONS = "compute/compilations"
DATA_S = "time/data_s"
STEP_S = "time/step_s"
PEAK_MEMORY_GIB = "memory/peak_gib"
