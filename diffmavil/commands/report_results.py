"""The report's table of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from diffmavil.commands.report_page import Markup, duration, join, percent, si, tag
from diffmavil.metrics_file import name_of


@dataclass(frozen=True, kw_only=True)
class Result:
    """A figure for the table of results.

    Args:
        task: What was done, such as ``"linear probe, audio"``.
        start: What with: ``"pretrained"``, ``"untrained"``, or a name for something else.
        metric: What was measured, such as ``"accuracy"``.
        value: The figure, in [0, 1].
        chance: What guessing gives, in [0, 1].
        flops: FLOPs of its training; ``None`` where they are not counted.
        seconds: How long it took.

    Raises:
        ValueError: If ``value`` or ``chance`` is outside [0, 1].
    """

    task: str
    start: str
    metric: str
    value: float
    chance: float
    flops: int | None
    seconds: float

    def __post_init__(self) -> None:
        for name, share in (("value", self.value), ("chance", self.chance)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {share}")


def results_table(results: Sequence[Result]) -> Markup:
    """The results, those of a task together with what pretraining gained; nothing without results."""
    if not results:
        return Markup()
    names = (("start", ""), ("", ""), ("value", ""), ("flops", "FLOP"), ("time", "time"))
    columns = tag("tr", *(tag("th", name, class_=kind, scope="col") for kind, name in names))
    order = list(dict.fromkeys(map(_task, results)))
    groups = groupby(sorted(results, key=lambda result: order.index(_task(result))), key=_task)
    tasks = [tag("tbody", *_rows(task, metric, list(group))) for (task, metric), group in groups]
    note = "The mark in a bar is chance. FLOP: of the training; a dash where they are not counted."
    return join([tag("table", tag("thead", columns), *tasks, class_="results"), tag("p", note, class_="note")])


def _task(result: Result) -> tuple[str, str]:
    return result.task, result.metric


def _rows(task: str, metric: str, results: list[Result]) -> Iterator[Markup]:
    chances = ", ".join(dict.fromkeys(percent(result.chance) for result in results))
    heading = [task, tag("span", f" · {metric}, chance {chances}")]
    values = {result.start: result.value for result in results}
    if {"pretrained", "untrained"} <= values.keys():
        points = 100 * (values["pretrained"] - values["untrained"])
        heading += [tag("span", " · pretrained minus untrained "), tag("strong", f"{points:+.1f} points")]
    yield tag("tr", tag("th", *heading, colspan="5"), class_="task")
    for result in results:
        kind = result.start if result.start in ("pretrained", "untrained") else "other"
        bar = tag(
            "div",
            tag("div", style=f"width:{100 * result.value:.2f}%", class_=kind),
            tag("i", style=f"left:{100 * result.chance:.2f}%"),
            class_="bar",
        )
        yield tag(
            "tr",
            tag("th", result.start, class_="start", scope="row"),
            tag("td", bar),
            tag("td", percent(result.value), class_="value"),
            tag("td", "–" if result.flops is None else si(result.flops), class_="flops"),
            tag("td", duration(result.seconds), class_="time"),
        )


def metrics_table(entries: Sequence[dict[str, Any]]) -> Markup:
    """What is in a run's ``metrics.json``: below each entry's name a row for each figure; nothing without entries."""
    groups = []
    for entry in entries:
        heading = tag("tr", tag("th", name_of(entry), colspan="2"), class_="task")
        rows = (
            tag("tr", tag("th", name, scope="row"), tag("td", "not finite" if value is None else f"{value:.4g}"))
            for name, value in entry["metrics"].items()
        )
        groups.append(tag("tbody", heading, *rows))
    return tag("table", *groups, class_="results") if groups else Markup()
