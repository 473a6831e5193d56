"""The page about several runs, side by side: cost, losses and scores, curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffmavil import keys
from diffmavil.commands.report_charts import Curve, overlaid, read_curves
from diffmavil.commands.report_page import Markup, Section, duration, join, page, si, tag
from diffmavil.commands.run_figures import RunFigures, figures_of


def report_several(runs: Sequence[Path], *, out: Path) -> Path:
    """Write the page.

    Args:
        runs: Folders of the runs, or the ones that they were told to write to (the newest run in each).
        out: File to write; its folder is made if missing.

    Returns:
        The file.

    Raises:
        RunFolderError: If one is no run.
        ValueError: If one has no figures, or one run is named twice.
    """
    figures = [figures_of(run) for run in runs]
    folders = [run.folder.resolve() for run in figures]
    if len(set(folders)) < len(folders):
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise ValueError(f"runs must be different ones, got {twice} twice")
    names = short_names([run.folder for run in figures])
    curves = {name: read_curves(run.folder) for name, run in zip(names, figures, strict=True)}
    sections = [
        Section("runs", "Cost, losses and scores", _table(names, figures)),
        Section("curves", "Curves", _curves(curves)),
        Section("files", "Where they are", _folders(names, figures)),
    ]
    text = page("Report of several runs", ", ".join(names), [section for section in sections if section.content])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    return out


def short_names(folders: Sequence[Path]) -> list[str]:
    """The folders without what all of them begin or end with, where that leaves something of each."""
    parts = [list(folder.absolute().parts) for folder in folders]
    for end in (0, -1):
        while len({part[end] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
            for part in parts:
                del part[end]
    return ["/".join(part) for part in parts]


def _table(names: Sequence[str], runs: Sequence[RunFigures]) -> Markup:
    """A row for each figure, a column for each run."""
    rows: list[tuple[str, list[str]]] = [
        ("Clips trained on", [f"{run.clips}" for run in runs]),
        ("Training FLOPs", [f"{si(sum(run.flops.values()) * run.clips)}FLOP" for run in runs]),
        ("Training FLOPs per clip", [f"{si(sum(run.flops.values()))}FLOP" for run in runs]),
        ("Wall clock", [duration(run.seconds * run.clips / run.world_size) for run in runs]),
        ("Wall clock per clip and process", [f"{1e3 * run.seconds:.3g} ms" for run in runs]),
        ("Peak memory of a process", [f"{run.peak_memory_bytes / 2**20:.0f} MiB" for run in runs]),
    ]
    for metric in dict.fromkeys(name for run in runs for name in run.metrics):
        rows.append((metric, [_figure(run, metric) for run in runs]))
    head = tag("tr", tag("th", ""), *(tag("th", name, scope="col") for name in names))
    body = (tag("tr", tag("th", name, scope="row"), *(tag("td", value) for value in values)) for name, values in rows)
    return tag("table", tag("thead", head), tag("tbody", *body))


def _figure(run: RunFigures, metric: str) -> str:
    if metric not in run.metrics:
        return "–"
    value = run.metrics[metric]
    return "not finite" if value is None else f"{value:.4g}"


def _curves(curves: dict[str, dict[str, Curve]]) -> Markup:
    """A chart of each loss and score that at least one run has logged, all runs in it."""
    logged = dict.fromkeys(name for of_run in curves.values() for name in of_run)
    shown = [name for name in logged if name.startswith(("train/", "val/"))]
    shown += [name for name in (keys.AUDIO_MASK_RATIO, keys.VIDEO_MASK_RATIO, keys.LR) if name in logged]
    charts = [overlaid(name, {run: found[name] for run, found in curves.items() if name in found}) for name in shown]
    return tag("div", *charts, class_="grid") if charts else Markup()


def _folders(names: Sequence[str], runs: Sequence[RunFigures]) -> Markup:
    return join(tag("p", f"{name}: ", tag("code", str(run.folder))) for name, run in zip(names, runs, strict=True))
