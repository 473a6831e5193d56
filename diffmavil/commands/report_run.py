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
from diffmavil.commands.config_text import ConfigTextError, read_text
from diffmavil.commands.report_page import Markup, duration, join, percent, si, table, tag
from diffmavil.data import ClipDataModule
from diffmavil.modules import PretrainModule
from diffmavil.run_folder import CONFIG

_FILES: Final = {
    CONFIG: "all settings of the run; diffmavil fit --config takes it",
    "checkpoints/*.ckpt": "the weights, and all that is needed to go on",
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


def read_config(run: Path) -> Any:
    """Content of a run's config.

    Raises:
        ConfigTextError: If it has none, or one that is refused.
    """
    return get_loader("yaml")(read_text(run / CONFIG))


def about_run(
    run: Path,
    data: ClipDataModule,
    module: PretrainModule,
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
    parts = [table([*_model(run, module), *_data(run, data), *_cost(compute), ("Versions", _versions())])]
    if commands:
        parts += [tag("h3", "Commands"), tag("pre", "\n".join(commands))]
    return join(parts)


def _model(run: Path, module: PretrainModule) -> Iterator[tuple[str, str]]:
    model = module.model
    encoder = model.audio_encoder
    builder, size = _builder(run) or (type(model).__name__, "own parts")
    title = f"{builder.rpartition('.')[2]}, {size}"
    blocks = len(encoder.transformer.blocks)
    yield "Model", f"{title}: encoders of {blocks} blocks of width {encoder.embed_dim}"
    parts = ", ".join(f"{name.replace('_', ' ')} {si(_parameters(part))}" for name, part in model.named_children())
    yield "Parameters", f"{si(_parameters(model))}: {parts}"
    yield (
        "Hidden",
        (
            f"{percent(module.audio_mask_ratio)} of the sound's patches and {percent(module.video_mask_ratio)} of the "
            "pictures' at the end of the run"
        ),
    )


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


def _builder(run: Path) -> tuple[str, dict[str, Any]] | None:
    """Class path of the model's builder and its arguments, by the run's config; ``None`` where it does not say."""
    try:
        model = read_config(run)["model"]["init_args"]["model"]
        return model["class_path"], model.get("init_args", {})
    except (
        OSError,
        ConfigTextError,
        KeyError,
        TypeError,
        AttributeError,
    ):  # a module of one's own need not have these keys
        return None


def about_files(run: Path, data: ClipDataModule) -> Markup:
    """The run's files, and what to do next."""
    found = [(name, text) for name, text in _FILES.items() if any(run.glob(name))]
    files = [tag("p", "In ", tag("code", str(run)), ":"), table(found)] if found else []
    commands = _NEXT.format(run=shlex.quote(str(run)))
    return join([*files, tag("h3", "Next"), tag("pre", commands)])
