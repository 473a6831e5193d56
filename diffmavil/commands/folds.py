"""Trainings and tests with every fold as the test split once, and what is known of them so far."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from diffmavil.commands.resume import written_elsewhere
from diffmavil.commands.train import DiffmavilCLI, train
from diffmavil.data.atomic import whole_file
from diffmavil.data.json_files import read_json_object


class _FoldCLI(DiffmavilCLI):
    """A fold's training and test, all of which is written into the fold's own folder."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Refuse a folder that all folds would share: each would take the one before it for its own beginning.

        Raises:
            ValueError: If the config names one.
        """
        super().parse_arguments(parser, args)
        if shared := written_elsewhere(self.config[self.config.subcommand].trainer):
            rule = (
                "trainer.logger.save_dir and dirpath of checkpoints must be left out: each fold has a folder of its own"
            )
            raise ValueError(f"{rule}, got {shared[0]}")


class CrossValidation:
    """The folds of one command, and what is known of them so far.

    Args:
        out: Folder to write into; what it holds of the same command is resumed.
        settings: What ``fit`` is given for every fold.

    Attributes:
        folds: All folds that the data has; empty while it has not been read.
        scores: By fold, the test's figures.

    Raises:
        ValueError: If the folder holds the folds of another command, or of a config that has changed.
    """

    def __init__(self, out: Path, settings: list[str]) -> None:
        self.out = out
        self.path = out / "results.json"
        self.settings: dict[str, list[str]] = {"arguments": settings, "configs": _configs(settings)}
        self.folds: list[int] = []
        self.scores: dict[int, dict[str, float]] = {}
        if self.path.is_file():
            kept = self._read()
            is_same = kept["settings"] == self.settings
            if not is_same and (kept["scores"] or any(out.glob("fold_*/**/*.ckpt"))):
                command = shlex.join(kept["settings"]["arguments"])
                raise ValueError(f"out must be a folder for this command and config alone, got {out}, of {command}")
            if is_same:
                self.folds, self.scores = kept["folds"], kept["scores"]

    def _read(self) -> dict[str, Any]:
        """What was kept so far.

        Raises:
            ValueError: If it is not what is written here.
        """
        kept = read_json_object(self.path)
        try:
            shlex.join(kept["settings"]["arguments"])
            folds = [int(fold) for fold in kept["folds"]]
            scores = {
                int(fold): {str(name): float(value) for name, value in figures.items()}
                for fold, figures in kept["scores"].items()
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{self.path}: the file must hold the folds of this command, or be removed") from error
        return {"settings": kept["settings"], "folds": folds, "scores": scores}

    def fold(self, number: int) -> None:
        """Train and test with one fold as the test split, or go on with that; keep its figures."""
        new = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        self._write()  # what a fold is begun with, lest it be ended with something else
        folder = str(self.out / f"fold_{number}")
        place = ["--data.source.fold", str(number), "--trainer.default_root_dir", folder, "--ckpt_path", "last"]
        try:
            self._run("fit", *place)
        except BaseException:
            self._unwrite(new)
            raise
        done = self._run("test", *place)
        self.folds = sorted({clip.fold for clip in done.datamodule.clips if clip.fold is not None})
        if number not in self.folds:
            raise ValueError(f"the clips must carry the numbers of their folds, got {self.folds} without {number}")
        figures = done.trainer.callback_metrics
        self.scores[number] = {
            name.removeprefix("test/"): float(value) for name, value in figures.items() if name.startswith("test/")
        }
        self._write()

    def _run(self, command: str, *place: str) -> DiffmavilCLI:
        line = [command, *self.settings["arguments"], *place]
        _say(f"\n$ {shlex.join(['diffmavil', *line])}")
        return train(line, cli=_FoldCLI)

    @rank_zero_only
    def _write(self) -> None:
        scores = {fold: self.scores[fold] for fold in sorted(self.scores)}
        results = {"settings": self.settings, "folds": self.folds, "scores": scores}
        with whole_file(self.path) as file:
            file.write((json.dumps(results, indent=2) + "\n").encode())

    @rank_zero_only
    def _unwrite(self, new: list[Path]) -> None:
        """Leave nothing of a start that was refused; where anything was trained, it can be resumed."""
        if not self.scores and not any(self.out.glob("fold_*/**/*")):
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                for folder in new:
                    folder.rmdir()

    def print_table(self, folds: list[int]) -> None:
        """A line for each fold, their mean, and their standard deviation as that of a sample (n - 1)."""
        names = list(self.scores[folds[0]])
        rows = {str(fold): [self.scores[fold][name] for name in names] for fold in folds}
        columns = list(zip(*rows.values(), strict=True))
        rows["mean"] = [mean(column) for column in columns]
        if len(folds) > 1:
            rows["std"] = [stdev(column) for column in columns]
        _say("\nfold" + "".join(f"{name:>12}" for name in names))
        for label, values in rows.items():
            _say(f"{label:<4}" + "".join(f"{value:>12.4f}" for value in values))


def _configs(settings: list[str]) -> list[str]:
    """What is in the configs that a command line names: a fold is of them, not of their names."""
    paths = [Path(word.rpartition("=")[2]) for word in settings]
    return [path.read_text() for path in paths if path.suffix in (".yaml", ".yml") and path.is_file()]


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)
