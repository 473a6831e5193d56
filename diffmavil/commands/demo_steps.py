"""The steps of the demo: clips, pretraining, probes, fine-tuning, the page."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diffmavil import keys
from diffmavil.commands.compute_file import read_compute
from diffmavil.commands.configs import find_configs
from diffmavil.commands.report_results import Result
from diffmavil.commands.report_write import write_report
from diffmavil.commands.synth import synth
from diffmavil.commands.train import DiffmavilCLI, train
from diffmavil.data import ClipDataModule, synthetic
from diffmavil.modules import LinearProbe, PretrainModule
from diffmavil.probing import linear_probe


class Demo:
    """The steps of the demo; each prints the command that it is.

    Args:
        out: Folder to write into.
        seed: Seed of all but the clips: weights, order, windows, masks and the choice of few labels.
    """

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.manifest = out / "clips" / "manifest.csv"
        self.commands: list[str] = []
        self.results: list[Result] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin

    def run(self, *args: str) -> DiffmavilCLI:
        """Print a command of the trainer and run it."""
        settings = {"--seed_everything": self.seed, "--data.source.path": self.manifest}
        line = [*args, *(str(part) for pair in settings.items() for part in pair)]
        self.say("diffmavil", *line)
        return train(find_configs(line))

    def say(self, *words: str) -> None:
        """Print a command and keep it for the page."""
        self.commands.append(shlex.join(words))
        print(f"\n$ {self.commands[-1]}", flush=True)

    def add(self, step: str, start: str, task: str, value: float, num_classes: int, flops: int | None = None) -> None:
        """Note a result."""
        print(f"{task}, {start}: accuracy {value:.3f}", flush=True)
        seconds = self.seconds[step]
        result = Result(
            task=task,
            start=start,
            metric=keys.ACCURACY,
            value=value,
            chance=1 / num_classes,
            flops=flops,
            seconds=seconds,
        )
        self.results.append(result)


def run_demo(out: Path, *, clips: int, epochs: int, seed: int) -> None:
    """Run all steps; the arguments are those of :func:`diffmavil.commands.demo.demo`."""
    begin = time.perf_counter()
    steps = Demo(out, seed)
    with steps.step("synth"):
        size = {"size_px": 64, "fps": 8}  # the models see 32 pixels and 4 frames a second
        flags = [word for name, value in size.items() for word in (f"--{name}", str(value))]
        steps.say("diffmavil", "synth", "--out", str(steps.manifest.parent), "--clips", str(clips), *flags)
        made_by = out / "clips" / "command.txt"
        recipe = f"{steps.commands[-1]}\n{_generator()}\n"
        if made_by.is_file() and made_by.read_text() == recipe:
            print(f"{clips} clips are there")
        else:
            made_by.unlink(missing_ok=True)
            steps.manifest.unlink(missing_ok=True)
            synth(out=steps.manifest.parent, clips=clips, **size)
            made_by.write_text(recipe)

    with steps.step("pretrain"):
        seeds = ("--data.seed", str(seed), "--model.seed", str(seed))
        config = ("--config", "demo/pretrain.yaml", "--trainer.max_epochs", str(epochs), *seeds)
        pretraining = steps.run("fit", *config, *_folder(out / "pretrain"))
    run = Path(str(pretraining.trainer.log_dir))
    checkpoint = run / "checkpoints" / "last.ckpt"
    pretraining_flops = int(read_compute(run / "compute.json")["training_flops"])
    starts: dict[str, list[str]] = {"pretrained": ["--model.checkpoint", str(checkpoint)], "untrained": []}

    for modality in ("audio", "video"):
        for start, flags in starts.items():
            step = f"probe {modality} {start}"
            with steps.step(step):
                probing = ("--config", "demo/probe.yaml", "--model.modalities", modality, *seeds)
                probe = steps.run("test", *probing, *flags)
            accuracy = float(probe.trainer.callback_metrics[f"test/{keys.ACCURACY}"])
            classes = len(probe.datamodule.classes)
            task = f"linear probe, {modality}, {probe.datamodule.labels_per_class} labels a class"
            flops = pretraining_flops if flags else None
            steps.add(step, start, task, accuracy, classes, flops)
    with steps.step("baseline"):
        assert isinstance(probe.model, LinearProbe)
        score = log_mel_baseline(probe.datamodule, probe.model.inverse_regularisations)
    task = f"linear probe, audio, {probe.datamodule.labels_per_class} labels a class"
    steps.add("baseline", "log-mel mean and deviation", task, score, classes)

    for start, flags in starts.items():
        step = f"finetune {start}"
        with steps.step(step):
            folder = out / "finetune" / start
            tuned = ("--config", "demo/finetune.yaml", *seeds)
            tuning = steps.run("fit", *tuned, *_folder(folder), *flags)
            run_folder = Path(str(tuning.trainer.log_dir))
            last = run_folder / "checkpoints" / "last.ckpt"
            test = steps.run("test", *tuned, *_folder(folder), "--ckpt_path", str(last))
        accuracy = float(test.trainer.callback_metrics[f"test/{keys.ACCURACY}"])
        flops = int(read_compute(run_folder / "compute.json")["training_flops"])
        task = f"fine-tuning, audio and video, {tuning.datamodule.labels_per_class} labels a class"
        steps.add(step, start, task, accuracy, classes, flops + pretraining_flops if flags else flops)

    with steps.step("report"):
        module, data = pretraining.model, pretraining.datamodule
        assert isinstance(module, PretrainModule)
        page = out / "report.html"
        write_report(run=run, data=data, module=module, results=steps.results, commands=steps.commands, out=page)
    summary = {"seed": seed, "seconds": steps.seconds, "results": [asdict(result) for result in steps.results]}
    (out / "results.json").write_text(json.dumps(summary, indent=2) + "\n")
    print_table(steps.results)
    print(f"\nall of it took {time.perf_counter() - begin:.0f} s; open {page}")


def log_mel_baseline(data: ClipDataModule, inverse_regularisations: list[float]) -> float:
    """Accuracy of logistic regression on the mean and standard deviation over time of each log-mel bin.

    Fitted to the train split, scored on the test split.

    Args:
        data: Labelled clips.
        inverse_regularisations: Values of C to choose from, within the train split.
    """
    data.setup("test")
    features, labels = {}, {}
    for split in ("train", "test"):
        rows, ids = [], []
        loader = data.eval_dataloader(data.split_indices[split], modalities="audio")
        for raw in tqdm(loader, desc=f"log-mel statistics, {split}", unit="batch"):
            batch = data.prepare(raw, "cpu")
            if batch.audio is None or batch.labels is None:
                continue
            frames = batch.audio_frames
            for row, spectrogram in enumerate(batch.audio[:, 0]):
                real = spectrogram if frames is None else spectrogram[: int(frames[row])]
                rows.append(torch.cat([real.mean(0), real.std(0, correction=0)]).numpy())
            ids.append(batch.labels.numpy())
        features[split], labels[split] = np.stack(rows), np.concatenate(ids)
    train_split, test_split = (features["train"], labels["train"]), (features["test"], labels["test"])
    return linear_probe(train_split, test_split, inverse_regularisations=inverse_regularisations).score


def print_table(results: list[Result]) -> None:
    """The results in plain text."""
    width = max(len(f"{result.task}, {result.start}") for result in results)
    print()
    for result in results:
        name = f"{result.task}, {result.start}"
        print(f"{name:<{width}}  {result.value:6.1%}  (chance {result.chance:.0%}, {result.seconds:4.0f} s)")


def _generator() -> str:
    """A digest of the code that makes the clips: clips of another version are not used."""
    digest = hashlib.sha256()
    for path in sorted(Path(synthetic.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _folder(path: Path) -> tuple[str, str]:
    return "--trainer.default_root_dir", str(path)
