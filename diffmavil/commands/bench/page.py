"""A benchmark's figures as a page of Markdown."""

from __future__ import annotations

from typing import Any

Table = list[list[str]]


def as_markdown(result: dict[str, Any]) -> str:
    """The page: the machine, the recipes, where the time goes, how the cost grows.

    Args:
        result: What ``diffmavil bench --json`` prints.
    """
    parts = [_machine(result), _recipes(result), _points(result)]
    parts += [_profile(profile) for profile in result["profiles"]]
    parts += [_growth(entry) for entry in result["growth"]]
    return "\n\n".join(parts)


def table(head: list[str], rows: Table) -> str:
    """A table, its columns in line for the eye too: the first to the left, the others to the right."""
    widths = [max(len(line[k]) for line in [head, *rows]) for k in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if k == 0 else "-" * (width - 1) + ":" for k, width in enumerate(max(width, 3) for width in widths)
    ]
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *(line(row) for row in rows)])


def _machine(result: dict[str, Any]) -> str:
    machine, settings = result["machine"], result["settings"]
    gpu = f"{machine['gpu']}, CUDA {machine['cuda']}, " if machine["gpu"] else ""
    versions = f"Python {machine['python']}, torch {machine['torch']}, diffmavil {machine['diffmavil']}"
    return (
        f"# Training step, {settings['size']} model, {machine['gpu'] or machine['processor']}\n\n"
        f"    {result['command']}\n\n"
        f"{gpu}{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_gib']:.0f} GiB{' on the GPU' if gpu else ''}; {versions}; precision "
        f"{settings['precision']}. A large matrix product in this precision reaches "
        f"{result['matmul_tflops_per_s']:.3g} TFLOP/s here.\n\n"
        "Clips of noise at hand; a step is transfer, spectrograms, forward, losses, backward and optimiser. In a round "
        f"every recipe takes {settings['points']} steps spread over its curriculum, with the batch of that epoch; the "
        f"recipes take turns at each step. Rounds: {settings['rounds']}; median, and least to most in brackets."
    )


def _recipes(result: dict[str, Any]) -> str:
    head = ["recipe", "s/clip", "time saved", "FLOPs saved", "clips/s", "GFLOPs/clip", "GFLOP/s", "of peak"]
    head += ["kept, GiB", "peak, GiB"]
    rows = []
    for row in result["recipes"]:
        seconds, less = row["seconds_per_clip"], row["wall_clock_reduction"]
        peak = row["peak_memory_bytes"]
        rows.append(
            [
                _name(row),
                f"{seconds['median']:.3g} ({seconds['min']:.3g} to {seconds['max']:.3g})",
                f"{less['median']:.1%} ({less['min']:.1%} to {less['max']:.1%})",
                f"{row['flops_reduction']:.1%}",
                f"{row['clips_per_s']:.3g}",
                f"{row['training_gflops_per_clip']:.1f}",
                f"{row['gflops_per_s']:.4g}",
                f"{row['utilisation']:.1%}",
                *("-" if size is None else f"{size / 2**30:.2f}" for size in (row["saved_bytes"], peak)),
            ]
        )
    return (
        "## The recipes\n\n"
        + table(head, rows)
        + "\n\nMeans over the recipe's epochs, as `diffmavil flops` plans them; "
        "what is saved is against the first recipe, round by round. Kept: the most that autograd keeps of a batch for "
        "the backward pass, without weights; "
        "not counted where compiled. Peak: the most that was allocated on a GPU, all included."
    )


def _points(result: dict[str, Any]) -> str:
    head = ["recipe", "epoch", "stands for", "audio ratio", "video ratio", "batch", "s/step"]
    rows = [
        [
            _name(row),
            str(point["epoch"]),
            f"{point['weight']:.1%}",
            f"{point['audio_mask_ratio']:.3f}",
            f"{point['video_mask_ratio']:.3f}",
            str(point["clips"]),
            f"{point['seconds']['median']:.3g}",
        ]
        for row in result["recipes"]
        for point in row["points"]
    ]
    return "## The steps\n\n" + table(head, rows)


def _profile(profile: dict[str, Any]) -> str:
    rows = [
        [f"`{entry['name'][:60]}`", str(entry["calls"]), f"{entry['seconds'] * 1e3:.1f}", f"{entry['share']:.1%}"]
        for entry in profile["operations"]
    ]
    head = ["operation", "calls", "ms", "of the step"]
    return f"## Where the time goes: {_name(profile)}, last epoch\n\n" + table(head, rows)


def _growth(entry: dict[str, Any]) -> str:
    parts = [
        f"## How the cost grows: {entry['recipe']}\n\nOne thing at a time, the rest as in the last epoch. The slope is "
        "the exponent p of `cost ~ x^p`, fitted by least squares on logarithms."
    ]
    for series in entry["series"]:
        slopes = series["slopes"]
        rows = [
            [
                f"{row['x']:g}",
                f"{row['seconds']:.3g}",
                f"{row['saved_bytes'] / 2**20:.0f}",
                f"{row['training_gflops']:.1f}",
                f"{row['attention_share']:.1%}",
            ]
            for row in series["rows"]
        ]
        figures = [slopes["seconds"], slopes["saved_bytes"], slopes["training_gflops"]]
        rows.append(["slope", *(f"{value:.2f}" for value in figures), ""])
        parts.append(table([series["against"], "s/step", "kept, MiB", "GFLOPs", "attention's products"], rows))
    rows = [
        [str(row["clips"]), f"{row['seconds'] * 1e3:.1f}", f"{row['training_gflops']:.1f}", f"{row['share']:.2%}"]
        for row in entry["logits"]["rows"]
    ]
    slopes = entry["logits"]["slopes"]
    rows.append(["slope", f"{slopes['seconds']:.2f}", f"{slopes['training_gflops']:.2f}", ""])
    parts.append(
        "The contrast alone, the one part that is quadratic in the batch:\n\n"
        + table(["clips of a batch", "ms", "GFLOPs", "of the step's FLOPs"], rows)
    )
    return "\n\n".join(parts)


def _name(row: dict[str, Any]) -> str:
    return f"{row['recipe']}{', compiled' if row['compiled'] else ''}"
