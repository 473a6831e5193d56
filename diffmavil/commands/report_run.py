"""What the report says of the run itself: model, data, cost, where its files are."""

from __future__ import annotations

import csv
import platform
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from jsonargparse import get_loader
from torch import nn

from diffmavil import __version__
from diffmavil.commands.config_text import read_text
from diffmavil.commands.report_page import Markup, duration, join, percent, si, table, tag
from diffmavil.data import ClipDataModule
from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.run_folder import CONFIG

Reported = PretrainModule | FineTuneModule
"""Modules whose runs there is a page about."""

_FILES: Final = {
    CONFIG: "all settings of the run; diffmavil fit --config takes it",
    "checkpoints/*.ckpt": "the weights, and all that is needed to go on",
    "metrics.json": "losses of the training, scores of tests and probes",
    "compute.json": "FLOPs and seconds of each epoch",
    "events.out.tfevents.*": "the curves, for TensorBoard",
    "skipped.csv": "the clips that could not be read, and why",
}

_NEXT: Final = """\
# pretrain on your own folder of clips
diffmavil fit --config pretrain.yaml --data.source.root FOLDER

# what a linear classifier reads from these encoders, on labelled clips
diffmavil test --config linear_probe.yaml --run {run} --data.source.path MANIFEST.csv

# features of your own clips, into predictions.npz
diffmavil predict --run {run} --data.source.root FOLDER

# the curves while a run goes on
tensorboard --logdir {run}"""

_NEXT_TUNED: Final = """\
# its score on the test split
diffmavil test --run {run}

# probabilities of your own clips, into predictions.npz
diffmavil predict --run {run} --data.source.root FOLDER

# the curves while a run goes on
tensorboard --logdir {run}"""


def read_config(run: Path) -> Any:
    """Content of a run's config.

    Raises:
        ConfigTextError: If it has none, or one that is refused.
    """
    return get_loader("yaml")(read_text(run / CONFIG))


def about_run(
    run: Path,
    data: ClipDataModule,
    module: Reported,
    compute: dict[str, Any] | None,
    commands: Sequence[str],
) -> Markup:
    """Model, data, cost and versions in a table, and the commands.

    Args:
        run: Folder of the run.
        data: Its data, set up.
        module: Its module.
        compute: Content of ``compute.json``; ``None`` where there is none.
        commands: The commands that were run.
    """
    parts = [table([*_model(module), *_data(run, data), *_cost(compute), ("Versions", _versions())])]
    if commands:
        parts += [tag("h3", "Commands"), tag("pre", "\n".join(commands))]
    return join(parts)


def _model(module: Reported) -> Iterator[tuple[str, str]]:
    model = module.model
    encoder = model.audio_encoder or model.video_encoder
    assert encoder is not None
    blocks = len(encoder.transformer.blocks)
    yield "Model", f"{_builder(module)}: encoders of {blocks} blocks of width {encoder.embed_dim}"
    parts = ", ".join(f"{name.replace('_', ' ')} {si(_parameters(part))}" for name, part in model.named_children())
    yield "Parameters", f"{si(_parameters(model))}: {parts}"
    if isinstance(module, PretrainModule):
        ratios = percent(module.audio_mask_ratio), percent(module.video_mask_ratio)
        text = f"{ratios[0]} of the audio patches and {ratios[1]} of the video patches at the end of the run"
        yield "Masked", text
    if isinstance(module, FineTuneModule):
        kind = "several labels a clip" if module.multi_label else "one label a clip"
        start = "an untrained model" if module.checkpoint is None else f"checkpoint {module.checkpoint}"
        yield "Task", f"{module.num_classes} classes, {kind}; began with {start}"


def _data(run: Path, data: ClipDataModule) -> Iterator[tuple[str, str]]:
    sound = data.audio_transform
    yield (
        "Input",
        (
            f"{sound.clip_s:g} s of sound at {sound.sample_rate_hz / 1000:g} kHz as {sound.num_frames} × "
            f"{sound.num_mel_bins} log-mel values; {data.num_frames} pictures of {data.image_size} × {data.image_size} "
            f"pixels, {data.fps:g} a second"
        ),
    )
    splits = ", ".join(f"{len(indices)} {split}" for split, indices in data.split_indices.items() if len(indices))
    yield "Clips", splits + (f"; {len(data.classes)} classes" if data.classes else "")
    path = run / "skipped.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            reasons = Counter(row["reason"] for row in csv.DictReader(file))
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        yield "Skipped", f"{reasons.total()} clips: {counts}"


def _cost(compute: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if compute is None:
        return
    world = compute["world_size"]
    yield (
        "Training",
        (
            f"{len(compute['epochs'])} epochs, {compute['steps']} steps, {compute['clips'] * world} clips seen, "
            f"{si(compute['training_flops'] * world)}FLOP"
        ),
    )
    yield (
        "Time",
        (
            f"{duration(compute['step_s'])} in steps, {duration(compute['data_s'])} waiting for data; "
            f"{compute['clips_per_s'] * world:.3g} clips a second"
        ),
    )
    yield (
        "Device",
        (
            f"{compute['device']}, {world} process{'es' if world > 1 else ''}, at most "
            f"{compute['peak_memory_bytes'] / 2**30:.2g} GiB of memory"
        ),
    )


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "av"))
    return f"diffmavil {__version__}, {packages}, Python {platform.python_version()}"


def _parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _builder(module: Reported) -> str:
    """The model's builder and its arguments: ``diffmavil, size base``."""
    built = module.origin.built
    if built is None:
        return type(module.model).__name__
    values = [f"{name} {_plain(value)}" for name, value in built.init_args.items() if value is not None]
    return ", ".join([built.class_path.rpartition(".")[2], *values])


def _plain(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def about_files(run: Path, module: Reported) -> Markup:
    """The run's files, and what to do next."""
    found = [(name, text) for name, text in _FILES.items() if any(run.glob(name))]
    files = [tag("p", "In ", tag("code", str(run)), ":"), table(found)] if found else []
    commands = (_NEXT if isinstance(module, PretrainModule) else _NEXT_TUNED).format(run=shlex.quote(str(run)))
    return join([*files, tag("h3", "Next"), tag("pre", commands)])
