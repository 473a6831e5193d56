"""The page about one run."""

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
from diffmavil.commands.report_page import Markup, Section, page
from diffmavil.commands.report_results import Result, metrics_table, results_table
from diffmavil.commands.report_run import Reported, about_files, about_run, read_config
from diffmavil.data import ClipDataModule
from diffmavil.metrics_file import METRICS, read_metrics
from diffmavil.models.checkpoints import check_weights, read_checkpoint, weights_of
from diffmavil.models.origin import origin_of
from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.modules.window_note import note_other_window
from diffmavil.run_folder import COMPUTE, CONFIG, RunFolderError, checkpoint_of, find_run


def report_one(run: Path, *, out: Path | None = None, clips: int = 4) -> Path:
    """Write the page about a run of pretraining or fine-tuning.

    Args:
        run: Folder of the run, or the one that it was told to write to (the newest run in it).
        out: File to write; report.html in the run's folder when not given.
        clips: Number of held-out clips to reconstruct of a pretraining, 0 or more.

    Returns:
        The file.

    Raises:
        RunFolderError: If there is no run, or if it has no config or no checkpoint.
        ValueError: If the run is no training, or its checkpoint does not fit its config.
    """
    run = find_run(run)
    read_metrics(run / METRICS)  # what is damaged is said before anything long is done
    if (run / COMPUTE).is_file():
        read_compute(run / COMPUTE)
    module, data = _rebuild(run)
    out = out or run / "report.html"
    command = f"diffmavil fit --config {shlex.quote(str(run / CONFIG))}"
    write_report(run=run, data=data, module=module, results=[], commands=[command], out=out, clips=clips)
    return out


def write_report(
    *,
    run: Path,
    data: ClipDataModule,
    module: Reported,
    results: Sequence[Result],
    commands: Sequence[str],
    out: Path,
    clips: int = 4,
) -> None:
    """Write one self-contained HTML page about a run and what came of it.

    What a run does not have (validation, compute.json, a schedule that changes anything) is left out of the page.

    Args:
        run: Folder of the run.
        data: Its data.
        module: Its module, trained; of a pretraining, clips are reconstructed at its mask ratios.
        results: Figures for the table; may be empty.
        commands: The commands that were run.
        out: File to write; its folder is made if missing.
        clips: Number of held-out clips to reconstruct, 0 or more.

    Raises:
        ValueError: If ``clips`` is negative.
    """
    check_number("clips", clips, at_least=0, limit=1000)
    data.setup()
    accounts = run / COMPUTE
    compute = read_compute(accounts) if accounts.is_file() else None
    reconstructed = about_clips(module, data, clips) if isinstance(module, PretrainModule) else Markup()
    sections = [
        Section(
            "run", "What was run", about_run(run=run, data=data, module=module, compute=compute, commands=commands)
        ),
        Section("results", "Results", results_table(results)),
        Section("metrics", "Losses and scores", metrics_table(read_metrics(run / METRICS))),
        Section("curves", "Curves", about_curves(read_curves(run), compute)),
        Section("clips", "Reconstructions", reconstructed),
        Section("files", "Where things are", about_files(run, module)),
    ]
    title = "Report of a pretraining" if isinstance(module, PretrainModule) else "Report of a fine-tuning"
    text = page(title, str(run), [section for section in sections if section.content])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def _rebuild(run: Path) -> tuple[Reported, ClipDataModule]:
    """Module and data of a run, with the weights and the mask ratios that it ended with."""
    if not (run / CONFIG).is_file():
        raise RunFolderError(f"run must be the folder of a run, with {CONFIG} in it, got {run}")
    checkpoint = checkpoint_of(run)
    print(f"checkpoint {checkpoint}")
    config = read_config(run)
    if not isinstance(config, dict) or not {"model", "data"} <= config.keys():
        raise ValueError(f"{CONFIG} of the run must have model and data, got {', '.join(config or ['nothing'])}")
    name = f"checkpoint {checkpoint}"
    content = read_checkpoint(checkpoint)
    origin = origin_of(content, name)
    args = config["model"].setdefault("init_args", {})
    began_with = args.pop("checkpoint", None)  # which may be gone; what it brought is in the run's own checkpoint
    for given in ("audio_weights", "video_weights"):
        args.pop(given, None)
    if "model" not in args and args.get("backbone") is None and origin.builder is not None:
        args["backbone"] = origin.builder
    config["data"]["eval_windows"] = 1  # the page shows the window in the middle
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", required=True)
    parser.add_class_arguments(ClipDataModule, "data")
    built = parser.instantiate(parser.parse_object({"model": config["model"], "data": config["data"]}))
    module, data = built.model, built.data
    if not isinstance(module, (PretrainModule, FineTuneModule)):
        kinds = "a PretrainModule or a FineTuneModule"
        raise ValueError(f"run must be one of {kinds}, got one of {type(module).__name__}")
    if isinstance(module, FineTuneModule) and began_with is not None:
        module.checkpoint = Path(began_with)  # to be named on the page
    weights = weights_of(content, module=module.kind(), name=name)
    check_weights(weights, module, name)
    module.on_load_checkpoint(content)
    note_other_window(data, origin, name)
    module.load_state_dict(weights)
    return module, data
