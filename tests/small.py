"""A learner of the smallest size and batches for it, for many test files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch

from diffmavil.data import ClipDataModule, ManifestSource
from diffmavil.models import MAViL, diffmavil, diffmavil_efficient, mavil
from diffmavil.types import Batch

AUDIO_SIZE, VIDEO_SIZE = (48, 32), (4, 32, 32)
BUILDERS = {"mavil": mavil, "diffmavil": diffmavil, "diffmavil_efficient": diffmavil_efficient}


def learner(name: str = "diffmavil", seed: int = 0) -> MAViL:
    torch.manual_seed(seed)
    return BUILDERS[name](size="nano")


def batch(
    clips: int = 3,
    *,
    audio_frames: list[int] | None = None,
    video_frames: list[int] | None = None,
    seed: int = 0,
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        index=torch.arange(clips),
        audio=torch.randn(clips, 1, *AUDIO_SIZE, generator=generator),
        audio_frames=None if audio_frames is None else torch.tensor(audio_frames),
        video=torch.randn(clips, 3, *VIDEO_SIZE, generator=generator),
        video_frames=None if video_frames is None else torch.tensor(video_frames),
        labels=torch.arange(clips) % 2,
    )


def made_data(root: Path, **kwargs: Any) -> ClipDataModule:
    """A data module on the made clips, of the size of :func:`batch`."""
    settings: dict[str, Any] = {
        "source": ManifestSource(path=root / "manifest.csv", label_column="label"),
        "batch_size": 5,
        "num_workers": 0,
        "clip_s": AUDIO_SIZE[0] / 100,
        "num_mel_bins": AUDIO_SIZE[1],
        "num_frames": VIDEO_SIZE[0],
        "fps": 10.0,
        "image_size": VIDEO_SIZE[1],
    }
    return ClipDataModule(**{**settings, **kwargs})


def trainer(folder: Path, **kwargs: Any) -> L.Trainer:
    """A quiet trainer on the CPU."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return L.Trainer(**{**settings, **kwargs})
