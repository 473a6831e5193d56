"""How the cost of a training step grows with the batch, the tokens and the visible share."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from diffmavil.callbacks.compute_accounting import clock_s
from diffmavil.commands.bench.recipe import Point, load_recipe
from diffmavil.commands.bench.settings import Precision
from diffmavil.commands.bench.step import TrainingStep, noise_clips
from diffmavil.flops import TRAINING_FACTOR, num_patches
from diffmavil.losses import info_nce
from diffmavil.sizes import SizeName
from diffmavil.types import Batch

REPEATS: Final = 3
"""The least of so many measurements is taken: what disturbs only adds."""

RATIOS: Final = (0.6, 0.7, 0.8, 0.9)
LOGITS_BATCHES: Final = (256, 512, 1024, 2048)


def slope(x: Sequence[int | float], y: Sequence[int | float]) -> float:
    """Exponent p of the power law ``y ~ x ** p`` that fits best: least squares on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def growth(
    name: str, *, size: SizeName, num_frames: int | None, clips: int, device: torch.device, precision: Precision
) -> dict[str, Any]:
    """Seconds and bytes of a recipe's step against what makes it dear, one thing at a time.

    The others stand as in the recipe's last epoch, at a batch of ``clips``.

    Args:
        name: The recipe.
        size: Size of the model.
        num_frames: Frames of video; ``None``: as the recipe says.
        clips: Clips of a batch.
        device: Where it is measured.
        precision: 32-true or bf16-mixed.

    Returns:
        ``series``, each with what it is ``against``, its ``rows`` and the fitted ``slopes``; and the
        ``logits`` of the contrast, likewise.
    """
    recipe = load_recipe(name, size=size, num_frames=num_frames)
    point, frames = recipe.points[-1], recipe.data.num_frames
    step = TrainingStep(recipe, device=device, precision=precision)
    step.set_ratios(point)

    longer = [step]
    for count in (2 * frames, 4 * frames):
        other = load_recipe(name, size=size, num_frames=count)
        longer.append(TrainingStep(other, device=device, precision=precision))
    series = [
        _series("clips of a batch", [(n, step, replace(point, clips=n)) for n in (clips, 2 * clips, 4 * clips)]),
        _series("patches of a clip", [(_patches(s), s, replace(point, clips=clips)) for s in longer]),
        _series(
            "visible share",
            [
                (1 - ratio, step, replace(point, clips=clips, audio_mask_ratio=ratio, video_mask_ratio=ratio))
                for ratio in RATIOS
            ],
        ),
    ]
    step.set_ratios(point)
    return {"series": series, "logits": logits(step)}


def _series(against: str, settings: list[tuple[int | float, TrainingStep, Point]]) -> dict[str, Any]:
    rows: list[dict[str, float]] = []
    seconds: list[list[float]] = [[] for _ in settings]
    for _ in range(1 + REPEATS):  # the first is to warm up
        for (_, step, point), times in zip(settings, seconds, strict=True):
            step.set_ratios(point)
            times.append(step.seconds(noise_clips(step.data, point.clips)))
    for (x, step, point), times in zip(settings, seconds, strict=True):
        step.set_ratios(point)
        flops, attention = attention_share(step)
        rows.append(
            {
                "x": x,
                "seconds": min(times[1:]),
                "saved_bytes": step.saved_bytes(noise_clips(step.data, point.clips)),
                "training_gflops": TRAINING_FACTOR * flops * point.clips / 1e9,
                "attention_share": attention,
            }
        )
    fitted = ("seconds", "saved_bytes", "training_gflops")
    axis = [row["x"] for row in rows]
    slopes = {key: slope(axis, [row[key] for row in rows]) for key in fitted}
    return {"against": against, "rows": rows, "slopes": slopes}


def _patches(step: TrainingStep) -> int:
    model, data = step.module.model, step.data
    return num_patches(model.audio_encoder, data.audio_size) + num_patches(model.video_encoder, data.video_size)


def attention_share(step: TrainingStep) -> tuple[int, float]:
    """Forward FLOPs of one clip as PyTorch counts them, and the share of them that is quadratic in the tokens."""
    module = deepcopy(step.module).to("meta")
    batch = Batch(
        index=torch.zeros(1, dtype=torch.long, device="meta"),
        audio=torch.zeros(1, 1, *step.data.audio_size, device="meta"),
        video=torch.zeros(1, 3, *step.data.video_size, device="meta"),
    )
    with FlopCounterMode(display=False) as counter:
        module(batch)
    total = counter.get_total_flops()
    # on the meta device attention is two products for each head, and nothing else is batched
    return total, counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0) / total


def logits(step: TrainingStep) -> dict[str, Any]:
    """Seconds and FLOPs of the contrast alone, which grows with the square of the batch.

    Each contrast of n clips of width d is two products of n x d with d x n, ``2 * 2 n^2 d`` FLOPs forward.

    Returns:
        ``rows`` with ``clips``, ``seconds``, ``training_gflops`` and their ``share`` of the whole step's; ``slopes``.
    """
    module, dim = step.module, step.module.model.fusion.embed_dim
    contrasts = (module.inter_weight > 0) + 2 * (module.intra_weight > 0)
    forward = sum(module.forward_flops(step.data.audio_size, step.data.video_size).values())
    rows = []
    for clips in LOGITS_BATCHES:
        x, y = (torch.randn(clips, dim, device=step.device, requires_grad=True) for _ in range(2))
        own = contrasts * 4 * clips**2 * dim
        rows.append(
            {
                "clips": clips,
                "seconds": contrasts * min(_contrast_s(x, y) for _ in range(REPEATS + 1)),
                "training_gflops": TRAINING_FACTOR * own / 1e9,
                "share": own / (own + clips * forward),
            }
        )
    slopes = {key: slope(LOGITS_BATCHES, [row[key] for row in rows]) for key in ("seconds", "training_gflops")}
    return {"rows": rows, "slopes": slopes}


def _contrast_s(x: torch.Tensor, y: torch.Tensor) -> float:
    start = clock_s(x.device)
    info_nce(x, y, temperature=0.1).backward()  # type: ignore[no-untyped-call]
    return clock_s(x.device) - start
