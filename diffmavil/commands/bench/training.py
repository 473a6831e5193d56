"""``diffmavil bench``: what a training step costs on this machine, recipe by recipe."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from typing import Any

import torch
from tqdm import tqdm

from diffmavil.callbacks.saved_bytes import CLIPS
from diffmavil.commands.bench.device import machine, matmul_flops_per_s, memory_bytes, operations
from diffmavil.commands.bench.growth import growth
from diffmavil.commands.bench.options import BenchOptions
from diffmavil.commands.bench.page import as_markdown
from diffmavil.commands.bench.recipe import Recipe, load_recipe
from diffmavil.commands.bench.settings import Settings
from diffmavil.commands.bench.step import TrainingStep, first_clips, noise_clips, saved, seconds_per_clip, spread
from diffmavil.types import RawBatch


def bench_training(options: BenchOptions[Settings]) -> None:
    """Time the training step of several recipes in turn, on clips of noise, and print what each saves.

    Args:
        options: The command line.


    Raises:
        FileNotFoundError: If a recipe is none.
        ValueError: If a value is out of its range, the recipes cannot be compared, or a batch does not fit.
    """
    settings = with_defaults(options.settings)
    try:
        result = measure(settings)
    except torch.OutOfMemoryError as error:
        given = settings.batch_size or "the recipes' own"
        raise ValueError(f"batch_size must be small enough for the GPU's memory, got {given}") from error
    options.show(result, as_markdown(result))


def with_defaults(settings: Settings) -> Settings:
    """What is left open, as it suits the machine."""
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device == "cuda"
    return replace(
        settings,
        device=device,
        size=settings.size or ("base" if gpu else "small"),
        precision=settings.precision or ("bf16-mixed" if gpu else "32-true"),
        batch_size=settings.batch_size or (None if gpu else 4),
    )


def measure(settings: Settings) -> dict[str, Any]:
    """All figures of a page.

    Args:
        settings: With nothing left open but ``num_frames`` and ``batch_size``.

    Raises:
        ValueError: If the recipes read clips of different sizes, or a batch does not fit.
    """
    assert settings.device is not None and settings.size is not None and settings.precision is not None
    device, precision = torch.device(settings.device), settings.precision
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    peak = matmul_flops_per_s(device, dtype)
    result: dict[str, Any] = {
        "command": command(settings),
        "machine": machine(device),
        "settings": {field.name: getattr(settings, field.name) for field in fields(Settings)},
        "matmul_tflops_per_s": peak / 1e12,
        "recipes": [],
        "profiles": [],
        "growth": [],
    }
    for compiled in (False, True) if settings.compile else (False,):
        rows, profiles = compare_steps(settings, device, compiled=compiled)
        for row in rows:
            row["utilisation"] = row["gflops_per_s"] * 1e9 / peak
        result["recipes"] += rows
        result["profiles"] += profiles
    if settings.growth:
        for name in settings.recipes:
            result["growth"].append(
                {"recipe": name}
                | growth(
                    name,
                    size=settings.size,
                    num_frames=settings.num_frames,
                    clips=max(1, (settings.batch_size or 16) // 2),
                    device=device,
                    precision=precision,
                )
            )
    return result


def command(settings: Settings) -> str:
    """The command line that measures this again."""
    words = ["diffmavil", "bench"]
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if value is not None and (value != field.default or field.name in ("rounds", "points")):
            words += [f"--{field.name}", json.dumps(value) if isinstance(value, (tuple, bool)) else str(value)]
    return shlex.join(words)


def compare_steps(
    settings: Settings, device: torch.device, *, compiled: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time the recipes in turn.

    Args:
        settings: What to time.
        device: Where.
        compiled: Whether through ``torch.compile``.

    Returns:
        Each recipe's figures, and each recipe's profile where that is asked for.
    """
    assert settings.size is not None and settings.precision is not None
    recipes = [
        load_recipe(
            name,
            size=settings.size,
            num_frames=settings.num_frames,
            batch_size=settings.batch_size,
            points=settings.points,
        )
        for name in settings.recipes
    ]
    require_same_clips(recipes)
    steps, memory = [], []
    for recipe in recipes:
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        step = TrainingStep(recipe, device=device, precision=settings.precision)
        require_fit(step, recipe)
        kept = None if compiled else kept_bytes(step, recipe)
        if compiled:  # only now, so that nothing is compiled for the batches of one's measuring
            step.compile()
        memory.append({"saved_bytes": kept, "peak_memory_bytes": warm_up(step, recipe, before)})
        steps.append(step)
    raw = noise_clips(recipes[0].data, max(point.clips for recipe in recipes for point in recipe.points))
    rounds = [timed_round(recipes, steps, raw) for _ in tqdm(range(settings.rounds), desc="bench", unit="round")]
    per_clip = [[seconds_per_clip(recipe.points, times[i]) for times in rounds] for i, recipe in enumerate(recipes)]
    rows = []
    for i, recipe in enumerate(recipes):
        rows.append(
            figures(recipe, per_clip[i], per_clip[0], recipes[0].flops)
            | memory[i]
            | {
                "compiled": compiled,
                "points": [
                    vars(point) | {"seconds": spread([times[i][k] for times in rounds])}
                    for k, point in enumerate(recipe.points)
                ],
            }
        )
    profiles = []
    if settings.profile:
        for recipe, step in zip(recipes, steps, strict=True):
            last = recipe.points[-1]
            step.set_ratios(last)
            top = operations(lambda step=step, clips=last.clips: step.seconds(first_clips(raw, clips)), device)  # type: ignore[misc]
            profiles.append({"recipe": recipe.name, "compiled": compiled, "operations": top})
    return rows, profiles


def require_same_clips(recipes: list[Recipe]) -> None:
    """Refuse to compare recipes that read different data.

    Raises:
        ValueError: If they do.
    """
    first = recipes[0]
    for recipe in recipes[1:]:
        sizes = [(r.data.audio_size, r.data.video_size) for r in (first, recipe)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"recipes must read clips of one size, got {sizes[0]} in {first.name} and {sizes[1]} in {recipe.name}"
            )


def require_fit(step: TrainingStep, recipe: Recipe) -> None:
    """Refuse a batch that is too large, before it fills the memory.

    Raises:
        ValueError: If what autograd keeps of a recipe's largest batch is more than the device has.
    """
    largest = max(recipe.points, key=lambda point: point.clips)
    step.set_ratios(largest)
    few, many = (step.saved_bytes(noise_clips(step.data, clips)) for clips in CLIPS)
    one, available = (many - few) // (CLIPS[1] - CLIPS[0]), memory_bytes(step.device)
    if one * largest.clips > available:
        raise ValueError(
            f"batch_size must be at most {available // one} to fit into {available / 2**30:.0f} GiB, "
            f"got {largest.clips} in epoch {largest.epoch} of {recipe.name}"
        )


def kept_bytes(step: TrainingStep, recipe: Recipe) -> int:
    """The most that autograd keeps of a batch, weights left out."""
    kept = []
    for point in recipe.points:
        step.set_ratios(point)
        kept.append(step.saved_bytes(noise_clips(step.data, point.clips)))
    return max(kept)


def warm_up(step: TrainingStep, recipe: Recipe, before: int) -> int | None:
    """Run a step at each point.

    Args:
        step: The step.
        recipe: Its recipe.
        before: Bytes of the GPU that were in use before the recipe came.

    Returns:
        The most that the recipe held on a GPU, weights and optimiser included; ``None`` on a CPU.
    """
    gpu = step.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(step.device)
    for point in recipe.points:
        step.set_ratios(point)
        step.seconds(noise_clips(step.data, point.clips))
    return torch.cuda.max_memory_allocated(step.device) - before if gpu else None


def timed_round(recipes: list[Recipe], steps: list[TrainingStep], raw: RawBatch) -> list[list[float]]:
    """Seconds of a step at each point of each recipe; the recipes take turns at every point.

    Args:
        recipes: The recipes.
        steps: Their steps.
        raw: A batch at least as large as any.
    """
    seconds: list[list[float]] = [[] for _ in recipes]
    for turn in range(max(len(recipe.points) for recipe in recipes)):
        for recipe, step, times in zip(recipes, steps, seconds, strict=True):
            if turn < len(recipe.points):
                point = recipe.points[turn]
                step.set_ratios(point)
                times.append(step.seconds(first_clips(raw, point.clips)))
    return seconds


def figures(recipe: Recipe, seconds: list[float], baseline: list[float], baseline_flops: float) -> dict[str, Any]:
    """What a recipe costs for each clip, and what it saves.

    Args:
        recipe: The recipe.
        seconds: Seconds a clip in each round.
        baseline: Those of the baseline.
        baseline_flops: Training FLOPs of a clip of the baseline.
    """
    per_clip = spread(seconds)
    return {
        "recipe": recipe.name,
        "seconds_per_clip": per_clip,
        "clips_per_s": 1 / per_clip["median"],
        "training_gflops_per_clip": recipe.flops / 1e9,
        "gflops_per_s": recipe.flops / per_clip["median"] / 1e9,
        "flops_reduction": 1 - recipe.flops / baseline_flops,
        "wall_clock_reduction": saved(baseline, seconds),
    }
