"""``diffmavil report``: one page about a run, or about several side by side."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from diffmavil.checks import check_number


def report(args: list[str]) -> None:
    """Write one self-contained HTML page about a run: what was run, its scores, curves and reconstructions.

    Call it from where the run was started, so that relative paths in its config hold.

    Args:
        args: The command line after ``diffmavil report``.

    Raises:
        ArgumentError: If an argument is missing, unknown or of the wrong type.
        RunFolderError: If there is no run, or if it has no config or no checkpoint.
        ValueError: If a run is no training, or its checkpoint does not fit its config.
    """
    parser = ArgumentParser(
        prog="diffmavil report",
        description="Write one self-contained HTML page about a run of pretraining or fine-tuning: what was run, its "
        "scores and curves, and of pretraining reconstructions of held-out clips. Of several runs, their cost, scores "
        "and curves side by side.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="*", help="folders of runs, or the ones that they were told to write to (the newest run in it)"
    )
    parser.add_argument("--run", action="append", default=[], help="the same as a key; may be given more than once")
    parser.add_argument(
        "--out", type=Path | None, help="file to write; report.html in the run's folder, of several in this one"
    )
    parser.add_argument(
        "--clips", type=int, default=4, help="held-out clips of a pretraining to reconstruct, at least 0"
    )
    options = parser.parse_args(args)
    runs = [Path(run) for run in [*options.runs, *options.run]]
    if not runs:
        raise ValueError("runs must be one folder of a run or several, got none")
    check_number("clips", options.clips, at_least=0, limit=1000)
    from diffmavil.commands.report_several import report_several  # all of torch, which --help need not wait for
    from diffmavil.commands.report_write import report_one

    if len(runs) == 1:
        out = report_one(runs[0], out=options.out, clips=options.clips)
    else:
        out = report_several(runs, out=options.out or Path("report.html"))
    print(f"report in {out}")
