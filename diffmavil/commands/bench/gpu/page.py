"""The page of ``diffmavil bench gpu``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from diffmavil.commands.bench.page import table

Figures = dict[str, Any]


def as_markdown(result: Figures) -> str:
    """The page of the parts so far.

    Args:
        result: ``command``, ``settings`` and ``parts``, as the JSON file has them.
    """
    parts: Figures = result["parts"]
    known = parts.get("device", {}).get("figures", {}).get("machine", {})
    name = known.get("gpu") or known.get("processor") or result["settings"]["device"]
    rows = [
        [title, parts[part]["state"], f"{parts[part]['seconds']:.0f}"]
        for part, title in TITLES.items()
        if part in parts
    ]
    total = sum(part["seconds"] for part in parts.values())
    sections = [f"# On a GPU: {name}", f"    {result['command']}"]
    if result["settings"]["device"] != "cuda":
        sections.append("A rehearsal on a CPU: no figure here says anything about a GPU.")
    sections.append(table(["part", "state", "s"], [*rows, ["all", "", f"{total:.0f}"]]))
    for part, title in TITLES.items():
        if part in parts:
            sections.append(f"## {title}")
            sections += _section(parts[part], _SECTIONS[part])
    return "\n\n".join(sections)


def _section(part: Figures, write: Callable[[Figures], list[str]]) -> list[str]:
    """What a part found, and why it failed if it did."""
    lines = write(part["figures"]) if part["figures"] else []
    if "error" in part:
        lines.append(f"**{part['state']}**: {part['error']['line']}")
        if part["error"]["tail"]:
            lines.append("\n".join(f"    {line}" for line in part["error"]["tail"].splitlines()))
    return lines


def _device(found: Figures) -> list[str]:
    machine, packages = found["machine"], found["packages"]
    versions = ", ".join(f"{name} {number or 'missing'}" for name, number in packages.items())
    gpu = f"{machine['gpu']}, driver {found['driver']}, CUDA {machine['cuda']}" if machine["gpu"] else "no GPU"
    chip = (
        f", compute capability {found['capability']}, {found['multiprocessors']} multiprocessors"
        if "capability" in found
        else ""
    )
    lines = [
        f"{gpu}{chip}; {machine['processor']}, {machine['cores']} cores; {machine['memory_gib']:.0f} GiB; "
        f"{found['system']}; Python {machine['python']}, torch {machine['torch']}, diffmavil {machine['diffmavil']}, "
        f"{versions}."
    ]
    peaks = []
    if "matmul_flops_per_s" in found:
        peaks.append(f"a large {found['dtype']} matrix product {found['matmul_flops_per_s'] / 1e12:.4g} TFLOP/s")
    if "copy_bytes_per_s" in found:
        peaks.append(f"a copy {found['copy_bytes_per_s'] / 1e12:.3g} TB/s, read and written")
    return [*lines, f"Peaks measured: {'; '.join(peaks)}."] if peaks else lines


def _tests(found: Figures) -> list[str]:
    if "note" in found:
        return [found["note"]]
    rows = [
        [test["name"], test["outcome"], f"{test['seconds']:.1f}", test["message"].replace("|", "\\|")]
        for test in found["tests"]
    ]
    return [table(["test", "outcome", "s", "message"], rows)] if rows else ["No test was found."]


def _recipes(found: Figures) -> list[str]:
    head = [
        "recipe",
        "batch",
        "s/clip",
        "clips/s",
        "GFLOPs/clip",
        "TFLOP/s",
        "MFU",
        "time saved",
        "FLOPs saved",
        "peak, GiB",
    ]
    rows = []
    for row in found["recipes"]:
        seconds, peak = row["seconds_per_clip"], row["peak_memory_bytes"]
        rows.append(
            [
                f"{row['recipe']}{', compiled' if row['compiled'] else ''}",
                str(row["clips"]),
                f"{seconds['median']:.3g} ({seconds['min']:.3g} to {seconds['max']:.3g})",
                f"{row['clips_per_s']:.4g}",
                f"{row['training_gflops_per_clip']:.1f}",
                f"{row['gflops_per_s'] / 1e3:.3g}",
                "-" if row["mfu"] is None else f"{row['mfu']:.1%}",
                f"{row['wall_clock_reduction']['median']:.1%}",
                f"{row['flops_reduction']:.1%}",
                "-" if peak is None else f"{peak / 2**30:.1f}",
            ]
        )
    return [
        table(head, rows),
        "Clips of noise at hand; a step is transfer, spectrograms, forward, losses, backward and optimiser. Means over "
        "the first and the last epoch; batch: of the last epoch, the largest that fits within a tenth, the first "
        "epoch's in proportion. MFU: against the matrix product above. Saved: against the first recipe, compiled or "
        "not as the row is.",
    ]


def _profile(found: Figures) -> list[str]:
    lines = [
        f"{found['recipe']}, not compiled, its last epoch, {found['clips']} clips: "
        f"{found['step_s'] * 1e3:.1f} ms a step."
    ]
    if "kernels" in found:
        rows = [
            [f"`{entry['name'][:70]}`", str(entry["calls"]), f"{entry['seconds'] * 1e3:.2f}", f"{entry['share']:.1%}"]
            for entry in found["kernels"]
        ]
        lines.append(table(["kernel", "calls", "ms", "of all kernels"], rows))
        lines.append(
            f"Outside matrix products (attention's kernels are counted as such): {found['outside_products']:.1%} "
            f"of the kernels' time. Kernels run in {found['device_busy']:.1%} of the step."
        )
    if "synchronisations" in found:
        waits = found["synchronisations"]
        named = ", ".join(f"{count:g} of `{name}`" for name, count in waits.items()) or "none"
        lines.append(f"Waits for the device in a step: {named}.")
    return lines


def _path(found: Figures) -> list[str]:
    lines = [f"{found['made_clips']} synthetic clips made and prepared into shards in {found['made_s']:.1f} s."]
    if "steps" in found:
        lines.append(
            f"`diffmavil fit`, {found['steps']} steps of {found['batch_size']} clips, {found['workers']} data workers: "
            f"{found['fit_s']:.1f} s, the first step after {found['first_step_s']:.1f} s; "
            f"{found['clips_per_s']:.4g} clips/s, {found['peak_memory_gib']:.1f} GiB. Without the first "
            f"{found['left_out']} steps, the device waited for data (data workers, transfer, spectrograms) in "
            f"**{found['data_share']:.1%}** of the time."
        )
    return lines


def _training(found: Figures) -> list[str]:
    rows = [[name, f"{first:.4f}", f"{last:.4f}"] for name, (first, last) in found["tenths"].items()]
    if found["held_out"]:
        rows.append(["loss on held-out clips, first and last", *(f"{value:.4f}" for value in found["held_out"])])
    return [
        f"{found['size']} model, {found['steps']} steps of {found['batch_size']} clips in {found['seconds']:.0f} s, "
        f"{found['clips_per_s']:.4g} clips/s with starting and validation. The loss fell by **{found['fell']:.1%}**; "
        f"it must by {found['margin']:.0%}.",
        table(["mean over", "first tenth", "last tenth"], rows),
    ]


TITLES: Final = {
    "device": "The device",
    "tests": "Tests that need a GPU",
    "recipes": "The recipes",
    "profile": "Where the time of the slowest goes",
    "path": "From clips to steps",
    "training": "A loss that falls",
}

_SECTIONS: Final = {
    "device": _device,
    "tests": _tests,
    "recipes": _recipes,
    "profile": _profile,
    "path": _path,
    "training": _training,
}
