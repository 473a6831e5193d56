"""``diffmavil flops``: what a training is going to compute."""

from __future__ import annotations

import json
from typing import Any

from diffmavil.checks import check_number
from diffmavil.commands.plan import EpochPlan, mean_flops, plan, planning_parser
from diffmavil.flops import TRAINING_FACTOR


def flops(args: list[str]) -> None:
    """Print forward and training FLOPs per clip by part, per epoch and for the run.

    Args:
        args: The command line after ``diffmavil flops``: a training's config and keys, ``--json``, ``--num_frames N``
            (frames of video), ``--clips N`` (clips of an epoch, for the totals of the run).

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ValueError: If a value is outside its range.
    """
    parser = planning_parser("diffmavil flops")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--num_frames", type=int, default=None, help="frames of video, in place of data.num_frames")
    parser.add_argument("--clips", type=int, default=None, help="clips of an epoch, for the FLOPs of the run")
    config = parser.parse_args(args)
    check_number("clips", config.clips, at_least=1, limit=1e15, optional=True)
    check_number("num_frames", config.num_frames, at_least=1, limit=10_000, optional=True)
    if config.num_frames is not None:
        config.data.num_frames = config.num_frames
    epochs = plan(parser, config)
    result = summary(epochs, config.clips)
    print(json.dumps(result, indent=2) if config.json else as_text(result))


def summary(epochs: list[EpochPlan], clips: int | None) -> dict[str, Any]:
    """The plan's figures by name, GFLOPs throughout.

    Args:
        epochs: The plan.
        clips: Clips of an epoch; ``None`` where it is not known.
    """
    forward = _gflops(mean_flops([epoch.forward_flops for epoch in epochs]))
    return {
        "forward_gflops_per_clip": forward,
        "training_gflops_per_clip": {part: TRAINING_FACTOR * value for part, value in forward.items()},
        "training_gflops_of_the_run": None
        if clips is None
        else TRAINING_FACTOR * forward["total"] * clips * len(epochs),
        "clips_per_epoch": clips,
        "epochs": [
            {
                "epoch": number,
                "audio_mask_ratio": epoch.audio_mask_ratio,
                "video_mask_ratio": epoch.video_mask_ratio,
                "batch_size": epoch.batch_size,
                "forward_gflops_per_clip": _gflops(epoch.forward_flops)["total"],
                "training_gflops_per_clip": TRAINING_FACTOR * _gflops(epoch.forward_flops)["total"],
            }
            for number, epoch in enumerate(epochs)
        ],
    }


def _gflops(parts: dict[str, float]) -> dict[str, float]:
    by_part = {part: value / 1e9 for part, value in parts.items()}
    return by_part | {"total": sum(by_part.values())}


def as_text(result: dict[str, Any]) -> str:
    """The figures as two tables."""
    forward, training = result["forward_gflops_per_clip"], result["training_gflops_per_clip"]
    lines = [f"{'GFLOPs per clip, mean over the run':<36}{'forward':>10}{'training':>10}"]
    lines += [f"  {part.replace('_', ' '):<34}{forward[part]:>10.3f}{training[part]:>10.3f}" for part in forward]
    lines += ["", "epoch  audio ratio  video ratio  batch   forward  training"]
    for epoch in result["epochs"]:
        audio, video = (
            "-" if ratio is None else f"{ratio:.3f}" for ratio in (epoch["audio_mask_ratio"], epoch["video_mask_ratio"])
        )
        lines.append(
            f"{epoch['epoch']:>5}{audio:>13}{video:>13}{epoch['batch_size']:>7}"
            f"{epoch['forward_gflops_per_clip']:>10.3f}{epoch['training_gflops_per_clip']:>10.3f}"
        )
    total = result["training_gflops_of_the_run"]
    if total is not None:
        lines += [
            "",
            f"training, {len(result['epochs'])} epochs of {result['clips_per_epoch']} clips: {total / 1e6:.4g} PFLOPs",
        ]
    return "\n".join(lines)
