"""Curves of a run: its losses, its schedules and what it cost, from TensorBoard's files and ``compute.json``."""

from __future__ import annotations

import io
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffmavil import keys
from diffmavil.callbacks.reconstruction_figures import INK, plain
from diffmavil.commands.report_page import Markup, data_uri, figure, join, si_unit, tag

Curve = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Steps, and a value at each."""

_TRAIN, _VAL = "#3b7cc4", "#e0872b"
_PARTS: Final = ("#3b7cc4", "#7aa9dc", "#3f9d7c", "#86c5ad", "#e0872b", "#eab57c", "#9a7fc2", "#c4669a")

_RUNS: Final = ("#3b7cc4", "#e0872b", "#3f9d7c", "#9a7fc2", "#c4669a", "#7d8794")
"""A colour for each of several runs."""

_POINTS: Final = 150
"""Points that a curve is averaged down to: more cannot be told apart."""

_SQUARED: Final = "squared error, normalised"
_LOSSES: Final = {
    keys.LOSS: ("Loss: the weighted sum", "loss"),
    keys.LOSS_RECONSTRUCTION_AUDIO: ("Reconstruction of the sound", _SQUARED),
    keys.LOSS_RECONSTRUCTION_VIDEO: ("Reconstruction of the pictures", _SQUARED),
    keys.LOSS_INTER: ("Contrast of sound and picture", "nats"),
    keys.LOSS_INTRA_AUDIO: ("Contrast of two views of the sound", "nats"),
    keys.LOSS_INTRA_VIDEO: ("Contrast of two views of the pictures", "nats"),
}
"""Title and unit of the losses that the package knows; a term of one's own is shown under its name."""

_SCORES: Final = {keys.ACCURACY: ("Accuracy", "share of clips"), keys.MAP: ("Mean average precision", "mAP")}
_LOGGED: Final = (f"train/{keys.LOSS}", f"val/{keys.LOSS}", *(f"val/{score}" for score in _SCORES))


_NOTE: Final = (
    "Reconstruction is measured on patches with their mean and scale taken out: predicting a patch's mean gives at "
    "most 1. In a contrast, guessing gives the logarithm of the batch's clips, so compare training and validation only "
    "at equal batches."
)


def read_curves(run: Path) -> dict[str, Curve]:
    """All that a run logged for TensorBoard, by name; nothing if it did not."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 1})
    events.Reload()
    curves = {}
    for name in events.Tags()["scalars"]:
        points = events.Scalars(name)
        curves[name] = np.array([p.step for p in points]), np.array([p.value for p in points], dtype=np.float64)
    return curves


def about_curves(curves: dict[str, Curve], compute: dict[str, Any] | None) -> Markup:
    """Charts of losses, schedules and cost under their headings, those that there are.

    Args:
        curves: What the run logged.
        compute: Content of ``compute.json``; ``None`` where there is none.
    """
    parts = []
    for title, charts, note in (
        ("Losses", loss_charts(curves), _NOTE if any("reconstruction" in name for name in curves) else ""),
        ("Schedules", schedule_charts(curves), ""),
        ("Cost", [] if compute is None else cost_charts(compute), ""),
    ):
        if charts:
            parts += [tag("h3", title), tag("div", *charts, class_="grid")]
            parts += [tag("p", note, class_="note")] if note else []
    return join(parts)


def loss_charts(curves: dict[str, Curve]) -> list[Markup]:
    """A chart of each term of the objective, in training and in validation, and of the scores of validation."""
    names = {name.partition("/")[2] for name in curves if name.startswith(_LOGGED)}
    charts, known = [], _LOSSES | _SCORES
    for name in [*(n for n in known if n in names), *sorted(names - known.keys())]:
        title, unit = known.get(name, (name, "loss"))
        canvas, axes = _axes("step", unit)
        for split, colour in (("train", _TRAIN), ("val", _VAL)):
            if f"{split}/{name}" in curves:
                _plot(axes, curves[f"{split}/{name}"], split, colour)
        axes.legend(frameon=False, labelcolor=INK)
        charts.append(figure(title, svg(canvas), alt=f"{title} over steps"))
    return charts


def overlaid(name: str, curves: dict[str, Curve]) -> Markup:
    """A chart of what several runs logged under one name, by the runs' names."""
    canvas, axes = _axes("step", name.rpartition("/")[2])
    for (run, curve), colour in zip(curves.items(), cycle(_RUNS), strict=False):
        _plot(axes, curve, run, colour)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return figure(name, svg(canvas), alt=f"{name} over steps, of each run")


def schedule_charts(curves: dict[str, Curve]) -> list[Markup]:
    """Charts of what changed over the run: mask ratios, batch size, learning rate."""
    charts = []
    ratios = [(name, curves[key]) for name, key in _RATIOS.items() if key in curves]
    if any(np.ptp(values) > 0 for _, (_, values) in ratios):
        canvas, axes = _axes("step", "hidden share of the patches")
        for (name, curve), colour, line in zip(ratios, (_TRAIN, _VAL), ("-", "--"), strict=False):
            axes.plot(*curve, color=colour, linestyle=line, label=name)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(frameon=False, labelcolor=INK)
        charts.append(figure("Mask ratios", svg(canvas)))
    for title, key, unit in (
        ("Batch size", keys.BATCH_SIZE, "clips a step and process"),
        ("Learning rate", keys.LR, "learning rate"),
    ):
        if key in curves and np.ptp(curves[key][1]) > 0:
            canvas, axes = _axes("step", unit)
            axes.plot(*curves[key], color=_TRAIN)
            charts.append(figure(title, svg(canvas)))
    return charts


_RATIOS: Final = {"sound": keys.AUDIO_MASK_RATIO, "pictures": keys.VIDEO_MASK_RATIO}


def cost_charts(compute: dict[str, Any]) -> list[Markup]:
    """Charts of FLOPs and seconds of each epoch, from the content of ``compute.json``."""
    epochs = compute["epochs"]
    if not epochs:
        return []
    numbers = [entry["epoch"] for entry in epochs]
    parts = list(dict.fromkeys(name for entry in epochs for name in entry["flops"]))
    flops = {name: np.array([entry["flops"].get(name, 0) for entry in epochs], dtype=float) for name in parts}
    most = sum(flops.values(), np.zeros(len(epochs))).max()
    scale, prefix = si_unit(most)
    canvas, axes = _axes("epoch", f"training {prefix}FLOP", height_in=3.3)
    _stack(axes, numbers, {name.replace("_", " "): values / scale for name, values in flops.items()})
    by_part = figure("Compute of each epoch, by part of the model", svg(canvas))
    canvas, axes = _axes("epoch", "seconds", height_in=3.3)
    waits = {
        "steps": np.array([entry["step_s"] for entry in epochs]),
        "waiting for data": np.array([entry["data_s"] for entry in epochs]),
    }
    _stack(axes, numbers, waits)
    return [by_part, figure("Seconds of each epoch", svg(canvas))]


def _axes(x_label: str, y_label: str, height_in: float = 2.6) -> tuple[Figure, Axes]:
    """Empty axes, labelled; integers only on the horizontal one."""
    canvas = Figure(figsize=(4.4, height_in), layout="constrained")
    axes = canvas.add_subplot()
    plain(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    return canvas, axes


def _plot(axes: Axes, curve: Curve, label: str, colour: str) -> None:
    steps, values = curve
    count = min(_POINTS, len(steps))
    x = [chunk.mean() for chunk in np.array_split(steps, count)]
    y = [chunk.mean() for chunk in np.array_split(values, count)]
    axes.plot(x, y, color=colour, label=label, linewidth=1.4, marker="o" if count == 1 else None)


def _stack(axes: Axes, numbers: list[int], parts: dict[str, npt.NDArray[np.float64]]) -> None:
    bottom = np.zeros(len(numbers))
    for (name, values), colour in zip(parts.items(), _PARTS, strict=False):
        axes.bar(numbers, values, bottom=bottom, color=colour, label=name, width=0.8)
        bottom = bottom + values
    axes.figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8, handlelength=1.0)


def svg(canvas: Figure) -> str:
    """A drawing as the address of a picture; the same drawing gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "diffmavil"}):
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return data_uri("image/svg+xml", buffer.getvalue())
