"""The report as HTML: elements that escape what they are given, the style, and the frame around the sections."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

_EMPTY: Final = frozenset({"meta", "img"})
"""Elements that have no end tag."""


class Markup(str):
    """HTML that is one already; any other string is text, and is escaped where it becomes part of an element."""


def join(parts: Iterable[str]) -> Markup:
    """Put pieces of HTML and of text one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element.

    Args:
        name: Its name.
        children: What is in it.
        attributes: Its attributes; an underscore at the end of a name is left away (``class_``).
    """
    listed = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{listed}>" + ("" if name in _EMPTY else f"{join(children)}</{name}>"))


def data_uri(media_type: str, content: bytes) -> str:
    """An address that holds the content itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def figure(caption: str, image: str, *, alt: str = "") -> Markup:
    """A picture below its caption.

    Args:
        caption: What it shows.
        image: Its address.
        alt: What it shows, for those who do not see it; the caption unless given.
    """
    return tag("figure", tag("figcaption", caption), tag("img", src=image, alt=alt or caption))


def table(rows: Iterable[tuple[str, str]]) -> Markup:
    """Names and what is to be said of each."""
    lines = [tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in rows]
    return tag("table", tag("tbody", *lines), class_="facts")


def si_unit(value: int | float) -> tuple[float, str]:
    """Unit in which to write a number, and its prefix: 1e9 and G for 2.5e10."""
    for unit, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return unit, prefix
    return 1.0, ""


def si(value: int | float) -> str:
    """A number in three digits with its prefix: ``25.3 G``."""
    unit, prefix = si_unit(value)
    return f"{value / unit:.3g} {prefix}"


def percent(share: float) -> str:
    """A share in per cent, with one decimal."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """A time in seconds, or in minutes or hours where it is long."""
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 99.5 else f"{minutes / 60:.1f} h"


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        id: Its name in links.
        title: Its heading.
        content: What is in it.
    """

    id: str
    title: str
    content: Markup


def page(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """A whole page that needs no other file."""
    sections = list(sections)
    links = [tag("a", section.title, href=f"#{section.id}") for section in sections]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", subtitle), tag("nav", *links)),
        *(tag("section", tag("h2", part.title), part.content, id=part.id) for part in sections),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5c6672; --line: #dfe3e8; --paper: #fff; --card: #f6f7f9;
  --strong: #2f6db3; --weak: #98a2ae; --other: #6b9a8b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ed; --soft: #9aa4b0; --line: #313943; --paper: #14181d;
  --card: #1c2128; --strong: #5b97da; --weak: #6b7683; --other: #6fa896; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.25; }
h2 { margin: 0 0 1rem; font-size: 1.25rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
header p, .note { color: var(--soft); }
.note { font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-top: .75rem; font-size: .9rem; }
a { color: var(--strong); text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin-top: 2.25rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
table { width: 100%; border-collapse: collapse; font-size: .925rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--soft); }
.facts th { width: 1%; padding-right: 1.5rem; white-space: nowrap; }
.facts td { overflow-wrap: break-word; word-break: break-word; }
.results { table-layout: fixed; }
.results th, .results td { vertical-align: middle; }
.results .start { width: 26%; }
.results .value, .results .flops, .results .time { width: 6.5rem; text-align: right; padding-right: 0; }
.results .task th { padding-top: 1.4rem; color: var(--ink); font-weight: 600; }
.results .task span { font-weight: 400; color: var(--soft); }
.results .task strong { font-weight: 600; color: var(--strong); }
.bar { position: relative; height: .8rem; border-radius: 2px; background: var(--card); print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.bar div { height: 100%; border-radius: 2px; background: var(--other); }
.bar .pretrained { background: var(--strong); }
.bar .untrained { background: var(--weak); }
.bar i { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: var(--ink); }
pre { margin: .75rem 0; padding: .75rem 1rem; overflow-x: auto; background: var(--card); border-radius: 4px;
  font: .85rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1rem 1.5rem; }
.pair { display: grid; grid-template-columns: 5fr 6fr; gap: 1rem 1.5rem; align-items: start; }
.media { display: grid; grid-template-columns: 1fr 3fr; gap: .5rem 1.5rem; max-width: 52rem; margin-bottom: 1rem;
  align-items: start; }
figure { margin: 0; break-inside: avoid; }
figcaption { margin-bottom: .3rem; font-size: .875rem; color: var(--soft); overflow-wrap: anywhere; }
img, video { display: block; width: 100%; height: auto; }
video { background: var(--card); border-radius: 3px; }
article { margin-bottom: 2.5rem; }
h2, h3 { break-after: avoid; }
@media (max-width: 40rem) {
  body { padding: 1.25rem 1rem 3rem; }
  .media, .pair { grid-template-columns: 1fr; }
  .media figure:first-child { max-width: 15rem; }
  .results { font-size: .82rem; }
  .results .start { width: 27%; }
  .results .value { width: 3.6rem; }
  .results .flops { width: 4.4rem; }
  .results .time { width: 3.8rem; }
  th, td, .facts th { padding-right: .5rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .media { display: none; }
  pre { white-space: pre-wrap; }
  tr, .results tbody { break-inside: avoid; }
}
"""
