"""Figures of reconstructions: rows with captions, in which what is not there is blank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from diffmavil.data.transforms import unnormalise_frames
from diffmavil.models.reconstruct import Views

INK: Final = "#77808c"
"""Text and axes: readable on white and on black."""

BLANK: Final = 0.82
"""Grey value of patches that are hidden."""

_COLUMNS: Final = 8
"""Most frames of a clip that are shown in a row."""


@dataclass(frozen=True)
class Rows:
    """One stream of one clip as its views, without the padding, and with what is hidden marked.

    Args:
        values: By the name of the row; spectrograms ``(F, T)``, frames ``(L, H, W, 3)``.
        hidden: True where neither the encoder nor the decoder gave a value.
    """

    values: dict[str, npt.NDArray[np.float32]]
    hidden: dict[str, npt.NDArray[np.bool_]]


def spectrogram_rows(views: Views, clip: int, num_frames: int | None, *, mean: float, std: float) -> Rows:
    """Rows of a clip's spectrogram in log-mel units.

    Args:
        views: The views of some clips.
        clip: Which one of them.
        num_frames: Its real frames; ``None``: all.
        mean: Mean that was taken out of the log-mel values.
        std: Standard deviation that they were divided by.
    """
    rows, hidden = _rows(views, clip)
    return Rows(
        {name: (row[0, :num_frames].T * std + mean).float().cpu().numpy() for name, row in rows.items()},
        {name: row[0, :num_frames].T.cpu().numpy() for name, row in hidden.items()},
    )


def frame_rows(views: Views, clip: int, num_frames: int | None) -> Rows:
    """Rows of a clip's frames in colours in [0, 1]; see :func:`spectrogram_rows`."""
    rows, hidden = _rows(views, clip)
    values, masks = {}, {}
    for name, row in rows.items():
        colours = unnormalise_frames(rearrange(row[:, :num_frames].float().cpu(), "c t h w -> t c h w")).clamp(0, 1)
        gone = hidden[name][:, :num_frames].all(0).cpu()
        values[name] = torch.where(gone[..., None], BLANK, rearrange(colours, "t c h w -> t h w c")).numpy()
        masks[name] = gone.numpy()
    return Rows(values, masks)


def _rows(views: Views, clip: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The views by name, and where each has nothing; ``noised`` only where the decoder was shown any."""
    original, visible = views.original[clip], views.visible[clip]
    rows = {"original": original, "visible": visible}
    if not torch.equal(views.corrupted[clip], visible):
        rows["noised"] = views.corrupted[clip]
    rows["predicted"] = views.predicted[clip]
    hidden = visible != original
    return rows, {name: hidden & (row == 0) for name, row in rows.items()}


def spectrogram_figure(rows: Rows, shift_s: float, num_frames: int | None = None) -> Figure:
    """A clip's spectrograms one below the other, low bins at the bottom.

    Args:
        rows: What to show.
        shift_s: Seconds from one frame to the next.
        num_frames: Frames of the window, of which those after the clip's end stay blank; ``None``: the clip's own.
    """
    canvas = Figure(figsize=(5.6, 0.5 + 0.9 * len(rows.values)), layout="constrained")
    grid = canvas.subplots(len(rows.values), sharex=True, squeeze=False)[:, 0]
    original = rows.values["original"]
    bins, frames = original.shape
    image = None
    for axes, (name, values) in zip(grid, rows.values.items(), strict=True):
        shown = np.ma.masked_array(values, rows.hidden[name])
        image = axes.imshow(
            shown,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap=matplotlib.colormaps["magma"].with_extremes(bad=str(BLANK)),
            vmin=original.min(),
            vmax=original.max(),
            extent=(0.0, frames * shift_s, 0.0, float(bins)),
        )
        plain(axes)
        axes.set_title(name, loc="left", fontsize=9, color=INK, pad=3)
        axes.set_yticks([0, bins // 2, bins])
        axes.set_xlim(0.0, (num_frames or frames) * shift_s)
    grid[-1].set_xlabel("time in the window (s)")
    canvas.supylabel("mel bin", color=INK, fontsize=10)
    assert image is not None
    bar = canvas.colorbar(image, ax=list(grid), aspect=40, pad=0.015)
    bar.set_label("log-mel energy", color=INK)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_visible(False)
    return canvas


def frames_figure(rows: Rows, start_s: float, fps: float, num_frames: int | None = None) -> Figure:
    """A clip's frames in rows one below the other, as one picture whose ticks name rows and times.

    Args:
        rows: What to show.
        start_s: When the first frame is shown.
        fps: Frames a second.
        num_frames: Frames of the window, of which those after the clip's end stay blank; ``None``: the clip's own.
    """
    count, height, width = rows.values["original"].shape[:3]
    total = num_frames or count
    chosen = np.unique(np.linspace(0, total - 1, min(total, _COLUMNS)).round().astype(int))
    gap = max(1, width // 32)
    cells = np.ones((len(rows.values), len(chosen), height + gap, width + gap, 4), np.float32)
    cells[..., height:, :, 3] = cells[..., width:, 3] = cells[:, chosen >= count, ..., 3] = 0.0
    for line, frames in zip(cells, rows.values.values(), strict=True):
        line[chosen < count, :height, :width, :3] = frames[chosen[chosen < count]]
    sheet = rearrange(cells, "r l h w c -> (r h) (l w) c")[:-gap, :-gap]
    canvas = Figure(figsize=(5.6, 0.35 + 5.2 * sheet.shape[0] / sheet.shape[1]), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_facecolor("none")
    axes.imshow(sheet, interpolation="nearest")
    times = [f"{start_s + number / fps:.2f} s" if number < count else "" for number in chosen]
    axes.set_xticks([k * (width + gap) + width / 2 for k in range(len(chosen))], times)
    axes.set_yticks([k * (height + gap) + height / 2 for k in range(len(rows.values))], list(rows.values))
    axes.tick_params(length=0, colors=INK, labelsize=8, labeltop=True, labelbottom=False)
    for label in axes.get_yticklabels():
        label.set(rotation=90, verticalalignment="center")
    axes.spines[:].set_visible(False)
    return canvas


def pixels(canvas: Figure) -> UInt8[np.ndarray, "H W C"]:
    """A figure as a picture, on white."""
    canvas.set_dpi(100)
    agg = FigureCanvasAgg(canvas)
    agg.draw()  # type: ignore[no-untyped-call]
    return np.asarray(agg.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def plain(axes: Axes) -> None:
    """Draw axes in ``INK``, without the lines above and at the right."""
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
