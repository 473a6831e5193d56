"""``diffmavil report``: one page about a pretraining run and what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from lightning import LightningModule

from diffmavil.checks import check_number
from diffmavil.commands.compute_file import read_compute
from diffmavil.commands.report_charts import about_curves, read_curves
from diffmavil.commands.report_clips import about_clips
from diffmavil.commands.report_page import Section, page
from diffmavil.commands.report_results import Result, results_table
from diffmavil.commands.report_run import about_files, about_run, read_config
from diffmavil.data import ClipDataModule
from diffmavil.models.checkpoints import check_weights, read_checkpoint, weights_of
from diffmavil.models.origin import origin_of
from diffmavil.modules import PretrainModule
from diffmavil.modules.window_note import note_other_window
from diffmavil.run_folder import CONFIG, RunFolderError, checkpoint_of, find_run

__all__ = ["Result", "report", "write_report"]


def report(*, run: Path, out: Path | None = None, clips: int = 4) -> None:
    """Write one self-contained HTML page about a pretraining run: what was run, its curves and reconstructions.

    Call it from where the run was started, so that relative paths in its config hold.

    Args:
        run: Folder of the run, or the one that it was told to write to (the newest run in it).
        out: File to write; report.html in the run's folder when not given.
        clips: Number of held-out clips to reconstruct, 0 or more.

    Raises:
        RunFolderError: If there is no run, or if it has no config or no checkpoint.
        ValueError: If the run is no pretraining, or its checkpoint does not fit its config.
    """
    check_number("clips", clips, at_least=0, limit=1000)
    run = find_run(run)
    module, data = _rebuild(run)
    out = out or run / "report.html"
    command = f"diffmavil fit --config {shlex.quote(str(run / CONFIG))}"
    write_report(run=run, data=data, module=module, results=[], commands=[command], out=out, clips=clips)
    print(f"report in {out}")


def with_run(words: list[str]) -> list[str]:
    """A command line of which the first word may be the run itself, with that word as a key."""
    return ["--run", *words] if words and not words[0].startswith("-") else words


def write_report(
    *,
    run: Path,
    data: ClipDataModule,
    module: PretrainModule,
    results: Sequence[Result],
    commands: Sequence[str],
    out: Path,
    clips: int = 4,
) -> None:
    """Write one self-contained HTML page about a pretraining run and what came of it.

    What a run does not have (validation, compute.json, a schedule that changes anything) is left out of the page.

    Args:
        run: Folder of the run.
        data: Its data.
        module: The pretrained module; clips are reconstructed at its mask ratios.
        results: Figures for the table; may be empty.
        commands: The commands that were run.
        out: File to write; its folder is made if missing.
        clips: Number of held-out clips to reconstruct, 0 or more.

    Raises:
        ValueError: If ``clips`` is negative.
    """
    check_number("clips", clips, at_least=0, limit=1000)
    data.setup()
    accounts = run / "compute.json"
    compute = read_compute(accounts) if accounts.is_file() else None
    sections = [
        Section(
            "run", "What was run", about_run(run=run, data=data, module=module, compute=compute, commands=commands)
        ),
        Section("results", "Results", results_table(results)),
        Section("curves", "Curves", about_curves(read_curves(run), compute)),
        Section("clips", "Reconstructions", about_clips(module, data, clips)),
        Section("files", "Where things are", about_files(run, data)),
    ]
    text = page("Report of a pretraining", str(run), [section for section in sections if section.content])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def _rebuild(run: Path) -> tuple[PretrainModule, ClipDataModule]:
    """Module and data of a run, with the weights and the mask ratios that it ended with."""
    if not (run / CONFIG).is_file():
        raise RunFolderError(f"run must be the folder of a run, with {CONFIG} in it, got {run}")
    checkpoint = checkpoint_of(run)
    print(f"checkpoint {checkpoint}")
    config = read_config(run)
    if not isinstance(config, dict) or not {"model", "data"} <= config.keys():
        raise ValueError(f"{CONFIG} of the run must have model and data, got {', '.join(config or ['nothing'])}")
    for name in ("audio_weights", "video_weights"):  # what they brought is in the checkpoint
        config["model"]["init_args"].pop(name, None)
    config["data"]["eval_windows"] = 1  # the page shows the window in the middle
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", required=True)
    parser.add_class_arguments(ClipDataModule, "data")
    built = parser.instantiate(parser.parse_object({"model": config["model"], "data": config["data"]}))
    module, data = built.model, built.data
    if not isinstance(module, PretrainModule):
        raise ValueError(f"run must be one of a PretrainModule, got one of {type(module).__name__}")
    name = f"checkpoint {checkpoint}"
    content = read_checkpoint(checkpoint)
    weights = weights_of(content, module=module.kind(), name=name)
    check_weights(weights, module, name)
    module.on_load_checkpoint(content)
    note_other_window(data, origin_of(content, name), name)
    module.load_state_dict(weights)
    return module, data
