"""A thousand calls and configs that should be refused: each in a process of its own, and what came of it.

Run it to have the table of docs/reliability.md: ``python tests/hostile_calls.py FOLDER [EVERY_NTH]``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LIMIT_S: Final = 60
MEMORY: Final = 8 << 30
MARK: Final = "EXECUTED"

REFUSED, NAMED, ACCEPTED, ALLOWED = "refused in one line", "refused, with its key", "accepted", "accepted, as it may be"
TRACEBACK, HANG, EXECUTED, LEFT, CRASH = "traceback", "hang", "executed something", "folder left behind", "crash"
LONG, SILENT = "line too long", "refused without a line"
GOOD: Final = (REFUSED, NAMED, ALLOWED)

BASE = """
trainer: {accelerator: cpu, max_epochs: 1, limit_train_batches: 1, limit_val_batches: 0, num_sanity_val_steps: 0,
  enable_progress_bar: false, enable_model_summary: false, enable_checkpointing: false}
data:
  source: {class_path: ManifestSource, init_args: {path: made/manifest.csv, label_column: label}}
  num_workers: 0
  batch_size: 4
  clip_s: 0.64
  num_frames: 2
  fps: 5
  image_size: 32
  num_mel_bins: 32
"""
MODEL = "{class_path: diffmavil.models.diffmavil_efficient, init_args: {size: nano}}"
PRETRAIN = BASE + f"model: {{class_path: PretrainModule, init_args: {{model: {MODEL}}}}}\n"
FINE = BASE + f"model: {{class_path: FineTuneModule, init_args: {{backbone: {MODEL}, num_classes: 10}}}}\n"
PROBE = BASE + f"  test_splits: [train, test]\nmodel: {{class_path: LinearProbe, init_args: {{backbone: {MODEL}}}}}\n"


@dataclass(frozen=True)
class Case:
    """A call.

    Args:
        group: What kind it is.
        args: The command line.
        files: Files that it finds in its folder.
        key: What its line must name, where it is a matter of one key.
        may: Why it may be accepted, where it may.
        leaves: Whether it fails after a training step, and leaves its run's folder.
    """

    group: str
    args: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    key: str = ""
    may: str = ""
    leaves: bool = False


VALUES = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf", "-1": "-1", "0": "0", "huge": "1" + 30 * "0", "text": "many"}
VALUES |= {"pair": "[1, 2]", "null": "null", "map": "{a: 1}", "1.5": "1.5", "true": "true", "tiny": "1e-320"}


def numbers() -> Iterator[Case]:
    """Every number of every class and command, as a flag or from a file."""
    from number_keys import ALLOWED as MAY
    from number_keys import KEYS

    may = {bad: {n for names in kinds.values() for n in names.split()} for bad, kinds in MAY.items()}
    for key in KEYS:
        place = _place(key.target.__name__, key.name)
        if place is None:
            continue
        for bad, value in VALUES.items():
            reason = "in its range" if {key.name, key.label} & may.get(bad, set()) else ""
            if bad in ("1.5", "true", "tiny"):
                reason = "in the range of some"
            if bad == "pair" and key.name in ("audio_patch_size", "inverse_regularisations"):
                reason = "a pair is what it is"
            if bad == "null" and key.name in _OPTIONAL:
                reason = "optional"
            whole = key.name if len(place) == 1 else f"{place[-1]}.{key.name}"
            if place[0] == "callback":
                content = (
                    f"trainer: {{callbacks: [{{class_path: {key.target.__name__}, init_args: {_with(key, value)}}}]}}"
                )
                yield _file("numbers in a file", "fit", PRETRAIN, content, f"trainer.callbacks.{key.name}", reason)
            elif len(place) == 1:
                first = tuple(place[0].split("_"))
                if not reason and bad != "null":  # it would set to work
                    yield Case(
                        "numbers as a flag", (*first, *_REST.get(place[0], ()), f"--{key.name}", value), {}, whole
                    )
            elif place[0] == "prepare":
                if not reason and bad != "null":
                    args = ("prepare", "made", "--out", "shards", f"--{whole}", value)
                    yield Case("numbers as a flag", args, {}, whole)
            else:
                command, config = _CONFIGS[place[0]]
                files = {"config.yaml": config.encode()}
                args = (command, "--config", "config.yaml", *place[1:-1], f"--{whole}={value}")
                yield Case("numbers as a flag", args, files, whole, reason)
                if len(place) == 2:
                    inner = {"data": "data: {%s: %s}", "model": "model: {init_args: {%s: %s}}"}.get(
                        place[-1], "model: {init_args: {model: {init_args: {%s: %s}}}}"
                    )
                    content = inner % (key.name, value)
                    yield _file("numbers in a file", command, config, content, whole, reason)


_OPTIONAL = (
    "eval_batch_size labels_per_class clips_per_epoch shuffle_shards layer peak_tflops_per_s fold num_frames "
    "batch_size workers most_lost_in_a_row drop_path_rate"
).split()
_REST = {
    "report": ("--run", "."),
    "synth": ("--out", "o"),
    "prepare": ("made", "--out", "shards"),
    "demo": ("--out", "o"),
}
_CONFIGS = {"pretrain": ("fit", PRETRAIN), "fine": ("fit", FINE), "probe": ("test", PROBE)}


def _place(target: str, name: str) -> tuple[str, ...] | None:
    """Config, flags before it and key above it; of a command its name alone."""
    if target in ("synth", "prepare", "report", "demo"):
        return (target,)
    if target in ("Audit", "Stored"):
        return ("prepare", target.lower())
    return {
        "PretrainModule": ("pretrain", "model"),
        "FineTuneModule": ("fine", "model"),
        "LinearProbe": ("probe", "model"),
        "ClipDataModule": ("pretrain", "data"),
        "diffmavil_efficient": ("pretrain", "model.model"),
        "ShardSource": ("pretrain", "--data.source=ShardSource", "--data.source.root=made", "data.source"),
        "Esc50Source": ("pretrain", "--data.source=Esc50Source", "--data.source.root=made", "data.source"),
        "AdaptiveBatchSize": ("callback",),
        "LargestBatch": ("callback",),
        "ReconstructionImages": ("callback",),
        "ComputeAccounting": ("callback",),
        "Settings": ("bench",),
        "DataSettings": ("bench_data",),
        "ScaleSettings": ("bench_scale",),
        "GpuSettings": ("bench_gpu",),
    }.get(target)


def _with(key: object, value: str) -> str:
    return f"{{{key.name}: {value}}}"  # type: ignore[attr-defined]


def _file(group: str, command: str, config: str, content: str, key: str = "", may: str = "") -> Case:
    files = {"config.yaml": config.encode(), "bad.yaml": content.encode()}
    return Case(group, (command, "--config", "config.yaml", "--config", "bad.yaml"), files, key, may)


FLAGS_MAY = {
    "0": "min_epochs min_steps num_sanity_val_steps log_every_n_steps reload_dataloaders_every_n_epochs "
    "gradient_clip_val fast_dev_run limit_val_batches overfit_batches",
    "-1": "max_epochs max_steps num_sanity_val_steps devices",
    "true": "fast_dev_run",
    "1.5": "gradient_clip_val max_time",
    "tiny": "gradient_clip_val",
}
"""What the trainer does something with: no such thing, no end, all."""


def trainer_flags() -> Iterator[Case]:
    """Every number of the trainer."""
    from number_keys import trainer_keys

    for name, optional in trainer_keys():
        for bad, value in VALUES.items():
            reason = "meant" if name in FLAGS_MAY.get(bad, "").split() or (bad == "null" and optional) else ""
            files = {"config.yaml": PRETRAIN.encode()}
            args = ("fit", "--config", "config.yaml", f"--trainer.{name}={value}")
            yield Case("the trainer's numbers", args, files, f"trainer.{name}", reason)


def names() -> Iterator[Case]:
    """Keys that are none, classes that are none or should never be called."""
    evil = [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.exec",
        "subprocess.run",
        "shutil.rmtree",
        "os.remove",
    ]
    evil += ["importlib.import_module", "torch.load", "pickle.loads", "pathlib.Path", "no.such.thing", "diffmavil", ""]
    touch = f"touch {MARK}"
    for command, config in (("fit", PRETRAIN), ("fit", FINE), ("test", PROBE)):
        model = "model.model" if config is PRETRAIN else "model.backbone"
        for place in ("model", model, "data.source"):
            for name in evil:
                flags = ("--config", "config.yaml", f"--{place}", name)
                files = {"config.yaml": config.encode()}
                yield Case("classes", (command, *flags), files)
                value = json.dumps({"class_path": name, "init_args": {"args": touch, "cmd": touch, "command": touch}})
                yield Case("classes", (command, "--config", "config.yaml", f"--{place}={value}"), files)
        for name in evil:
            value = json.dumps([{"class_path": name, "init_args": {"command": touch}}])
            for key in ("callbacks", "logger", "strategy", "plugins", "profiler"):
                args = (command, "--config", "config.yaml", f"--trainer.{key}={value}")
                yield Case("classes", args, {"config.yaml": config.encode()})
        for key in ("data", "model", "trainer", "data.source", "seed_everything", "optimizer", "nothing"):
            for name in ("no_such", "lrr", "__class__", "init_args.x", "0", "class_path"):
                args = (command, "--config", "config.yaml", f"--{key}.{name}=1")
                yield Case("unknown keys", args, {"config.yaml": config.encode()})


_TEN = ", ".join(["x"] * 10)
BOMB = f"a0: &a0 [{_TEN}]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10))
MERGE = "m0: &m0 {a: 1}\n" + "".join(f"m{k}: &m{k} {{<<: [*m{k - 1}, *m{k - 1}], k{k}: 1}}\n" for k in range(1, 16))
BIG = {
    "bomb": BOMB,
    "bomb in one line": "{" + BOMB.strip().replace("\n", ", ") + "}",
    "merge": MERGE,
    "itself": "&t {callbacks: *t}",
    "itself in a list": "&d [*d]",
    "itself far below": "&d {a: {b: [1, {c: *d}]}}",
    "deep": "[" * 3000 + "]" * 3000,
    "deep and open": "[" * 100_000,
    "deep maps": '{"a":' * 2000 + "1" + "}" * 2000,
    "digits": "9" * 5000,
    "negative digits": "-" + "9" * 5000,
    "hexadecimal": "0x" + "f" * 5000,
    "binary": "!!binary aGVsbG8=",
    "set": "!!set {a, b}",
    "object": f"!!python/object/apply:os.system ['touch {MARK}']",
    "new": "!!python/object/new:type ['a', [], {}]",
    "name": "!!python/name:os.system",
    "module": "!!python/module:os",
    "own tag": "!mine {a: 1}",
    "long": "[" + "1, " * 20_000 + "1]",
    "very long": "[" + "1, " * 500_000 + "1]",
    "undefined": "*nowhere",
    "nul": "a\0b",
    "not closed": "{a: [1, }",
    "wide key": "{" + "k" * 100_000 + ": 1}",
}


def texts() -> Iterator[Case]:
    """YAML that is small and much, or that no config is."""
    files = {"config.yaml": PRETRAIN.encode()}
    for name, text in BIG.items():
        block = "\n".join(f"    {line}" for line in text.splitlines())
        contents = {"top": text, "extra": f"extra: {text}" if "\n" not in text else text}
        for key in ("trainer", "data", "model"):
            contents[key] = f"{key}:\n{block}"
            contents[f"{key} below"] = f"{key}:\n  {'source' if key == 'data' else 'init_args'}:\n{block}"
        for content in contents.values():
            yield _file("YAML in a file", "fit", PRETRAIN, content)
        for command in ("stats", "flops", "validate", "predict", "cross-validate"):
            yield Case("YAML in a file", (command, "--config", "bad.yaml"), {"bad.yaml": text.encode()})
        yield Case("YAML in a file", ("compare", "bad.yaml", "config.yaml"), files | {"bad.yaml": text.encode()})
        run = {"run/config.yaml": text.encode(), "run/checkpoints/last.ckpt": b"x"}
        yield Case("YAML in a file", ("report", "--run", "run"), run)
        if "\0" not in text and len(text) < 100_000:
            for key in (
                "data.source",
                "model.model",
                "trainer.callbacks",
                "data.batch_size",
                "trainer.strategy",
                "model.lr",
            ):
                may = "a text" if name in ("wide key",) else ""
                yield Case("YAML as a flag", ("fit", "--config", "config.yaml", f"--{key}", text), files, "", may)


def encodings() -> Iterator[Case]:
    """Bytes that are no text, and files that are none."""
    text = PRETRAIN.encode()
    odd = {
        "utf16": PRETRAIN.encode("utf-16"),
        "utf32": PRETRAIN.encode("utf-32"),
        "latin": b"# pr\xe9training\n" + text,
        "nul": text + b"\0",
        "control": text + b"# \x1b[31m\n",
        "surrogate": text + b"# \xed\xa0\x80\n",
        "random": bytes(range(256)) * 20,
        "zip": b"PK\x03\x04" + bytes(2000),
        "gzip": b"\x1f\x8b\x08" + bytes(range(200)),
        "tabs": b"trainer:\n\tmax_epochs: 1\n",
        "huge": b"# " + b"x" * 5_000_000,
        "zeros": bytes(3_000_000),
        "empty": b"",
        "number": b"3",
        "text": b"hello",
        "list": b"[1, 2]",
        "null": b"null",
        "two": text + b"---\n" + text,
        "twice": text + b"seed_everything: 1\nseed_everything: 2\n",
    }
    for name, content in odd.items():
        for command in ("fit", "validate", "test", "predict", "stats", "flops"):
            yield Case("encodings", (command, "--config", "bad.yaml"), {"bad.yaml": content}, may=_may(name))
        yield Case("encodings", ("compare", "bad.yaml", "bad.yaml"), {"bad.yaml": content})
    places = [
        "/dev/zero",
        "/dev/null",
        "/dev/stdin",
        "fifo",
        "made",
        "/",
        "nowhere.yaml",
        "",
        "-",
        "/proc/self/mem",
        "loop",
    ]
    for place in places:
        for command in ("fit", "validate", "test", "predict", "stats", "flops", "cross-validate"):
            yield Case("files that are none", (command, "--config", place))
        yield Case(
            "files that are none", ("compare", place, place), may="two folders are runs" if place == "made" else ""
        )
        yield Case("files that are none", ("report", "--run", place))
        for key in ("data.source", "model.model", "ckpt_path", "data.source.path", "trainer.default_root_dir"):
            ends = key == "trainer.default_root_dir" and place in ("made", "", "-", "nowhere.yaml", "/dev/stdin")
            args = ("fit", "--config", "config.yaml", f"--{key}", place)
            may = "a folder" if ends or (key, place) in (("ckpt_path", ""),) else ""
            yield Case("files that are none", args, {"config.yaml": text}, may=may)


def _may(name: str) -> str:
    return "a remark" if name == "control" else ""


def contradictions() -> Iterator[Case]:
    """Settings that cannot be met together, and commands that are none."""

    def fit(*flags: str, config: str = PRETRAIN, command: str = "fit", key: str = "") -> Case:
        return Case(
            "contradictions", (command, "--config", "config.yaml", *flags), {"config.yaml": config.encode()}, key
        )

    for flag, key in (
        ("--data.clip_s=2.5", "data.clip_s"),
        ("--data.num_mel_bins=50", "data.num_mel_bins"),
        ("--data.num_frames=3", "data.num_frames"),
        ("--data.image_size=57", "data.image_size"),
        ("--data.short_side=8", "data.short_side"),
        ("--data.clip_s=0.001", "data.clip_s"),
        ("--data.frame_shift_ms=0.001", "data.frame_shift_ms"),
        ("--data.fps=1", "num_frames / fps"),
        ("--data.test_splits=[]", "data.test_splits"),
        ("--data.shuffle_shards=2", "data.shuffle_shards"),
        ("--data.labels_per_class=100000", ""),
        ("--data.modalities=audio", ""),
        ("--trainer.accelerator=gpu", "trainer.accelerator"),
        ("--trainer.accelerator=abacus", "accelerator"),
        ("--trainer.strategy=no_such", "trainer.strategy"),
        ("--trainer.precision=3", "trainer.precision"),
        ("--trainer.default_root_dir=/proc/x", "trainer.default_root_dir"),
        ("--trainer.default_root_dir=config.yaml", "trainer.default_root_dir"),
        ("--trainer.profiler=none_such", "trainer.profiler"),
        ("--trainer.callbacks+=EarlyStopping", ""),
        ("--trainer.callbacks+=DeviceStatsMonitor", ""),
        ("--trainer.callbacks+=AdaptiveBatchSize", ""),
        ("--trainer.callbacks+=MaskRatioCurriculum", ""),
        ("--model.audio_weights=nowhere.pth", ""),
        ("--model.video_weights=timm:no_such_model", ""),
        ("--ckpt_path=nowhere.ckpt", ""),
        ("--ckpt_path=made/manifest.csv", ""),
        ("--seed_everything=-1", "seed_everything"),
        ("--seed_everything=1e30", "seed_everything"),
        ("--seed_everything=many", "seed_everything"),
    ):
        yield fit(flag, key=key)
        yield fit(flag, "--trainer.logger=false", key=key)
    monitor = ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss")
    args = ("fit", "--config", "config.yaml", *monitor)
    yield Case("contradictions", args, {"config.yaml": PRETRAIN.encode()}, leaves=True)
    for flag in ("--model.num_classes=3", "--model.multi_label=true", "--model.checkpoint=nowhere.ckpt"):
        yield fit(flag, config=FINE)
    for flag in ("--model.layer=99", "--model.layer=0", "--model.inverse_regularisations=[]", "--model.pooling=max"):
        yield fit(flag, config=PROBE, command="test", key="model.")
    for value in ("[0.9, 1.5]", "[.nan, 0.9]", "[-1, 0.9]", "[2, 2]", "[0.9]", "[0.9, 0.9, 0.9]", "0.9"):
        yield fit(f"--model.betas={value}", key="model.betas")
        yield _file("contradictions", "fit", PRETRAIN, f"model: {{init_args: {{betas: {value}}}}}", "model.betas")
    commands = [
        "fti",
        "",
        " ",
        "--nothing",
        "fit fit",
        "bench nothing",
        "report",
        "compare",
        "compare a",
        "compare a b c",
        "synth",
    ]
    commands += [
        "prepare",
        "prepare made",
        "prepare --out x",
        "demo --clips 7",
        "stats",
        "flops",
        "cross-validate",
        "fit",
    ]
    commands += [
        "cross-validate --folds a",
        "cross-validate --folds 1,2 --out o",
        "report --run made",
        "synth --out made",
    ]
    commands += ["prepare nowhere --out x", "prepare made --out made/manifest.csv", "validate", "test", "predict"]
    commands += ["flops --clips 0", "flops --clips -1", "compare --num_views 3 a b", "fit --config", "fit -c", "fit --"]
    for line in commands:
        yield Case("commands", tuple(line.split(" ")) if line.strip() else (line,))
    for letter in ("\0", "\n", "\x1b[31m", "\udcff", "é" * 3000, "../" * 500, "a" * 100_000):
        for key in ("data.source.path", "model.lr", "trainer.default_root_dir", "ckpt_path", "data.nothing", "config"):
            may = "a name of a folder" if key == "trainer.default_root_dir" else ""
            yield Case(
                "odd letters",
                ("fit", "--config", "config.yaml", f"--{key}", letter),
                {"config.yaml": PRETRAIN.encode()},
                may=may,
            )
    yield Case(
        "commands", ("fit", "--config", "config.yaml", "--data.source.fold", "1"), {"config.yaml": PRETRAIN.encode()}
    )
    crossed = ("cross-validate", "--config", "config.yaml", "--out", "cv")
    yield Case("commands", crossed, {"config.yaml": PRETRAIN.encode()})


def cases() -> list[Case]:
    """All of them."""
    parts = (numbers, trainer_flags, names, texts, encodings, contradictions)
    return [case for part in parts for case in part()]


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    what: str
    seconds: float
    line: str


def call(case: Case, folder: Path, made: Path) -> Outcome:
    """Run a case in a process of its own, in an empty folder.

    Args:
        case: The case.
        folder: Where to make that folder.
        made: A data set of ``diffmavil synth``.
    """
    place = folder / "here"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "made").symlink_to(made)
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to(place / "loop")
    for name, content in case.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    before = _tree(place), _tree(made)
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        _child(case, place, folder / "said")
    status = _wait(child)
    seconds = time.perf_counter() - begin
    said = (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""
    line = next((text for text in reversed(said.splitlines()) if text.startswith("diffmavil: error: ")), "")
    left = _tree(place) - before[0]
    what = _sorted(case, status, said, line, left, (place / MARK).exists() or _tree(made) != before[1])
    return Outcome(what, seconds, line or said[-300:])


def _sorted(case: Case, status: int | None, said: str, line: str, left: set[str], executed: bool) -> str:
    if executed:
        return EXECUTED
    if status is None:
        return HANG
    if os.WIFSIGNALED(status):
        return CRASH
    code = os.WEXITSTATUS(status)
    if code == 0:
        return ALLOWED if case.may or "--help" in case.args else ACCEPTED
    if code != 2 or "Traceback" in said:
        return TRACEBACK
    if left and not case.leaves:
        return LEFT
    if not line:
        return SILENT
    if len(line) > 520:
        return LONG
    return NAMED if case.key and case.key in line else REFUSED


def _child(case: Case, place: Path, said: Path) -> None:
    code = 99
    try:
        os.chdir(place)
        os.setpgid(0, 0)
        handle = os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for number in (1, 2):
            os.dup2(handle, number)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False, errors="backslashreplace") for n in (1, 2))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        from diffmavil import cli

        code = cli.main(list(case.args))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int | None:
    """Its status; ``None`` if it was ended because its time was over."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _tree(folder: Path) -> set[str]:
    return {os.path.join(top, name) for top, folders, files in os.walk(folder) for name in [*folders, *files]}


def make(folder: Path) -> Path:
    """Write the data set that the calls find."""
    from diffmavil.commands.synth import synth

    made = folder / "made"
    if not (made / "manifest.csv").exists():
        synth(out=made, clips=40, clip_s=1.0, size_px=32, fps=8, workers=1)
    return made


def main(folder: Path, every: int) -> None:
    """Run them and print the table."""
    import lightning  # noqa: F401 (once, for all the children)

    import diffmavil.commands.train  # noqa: F401

    made = make(folder)
    table: dict[str, Counter[str]] = {}
    slowest = 0.0
    with (folder / "outcomes.jsonl").open("w") as log:
        for case in cases()[::every]:
            outcome = call(case, folder, made)
            slowest = max(slowest, outcome.seconds)
            table.setdefault(case.group, Counter())[outcome.what] += 1
            named = outcome.what in GOOD and not (case.key and outcome.what == REFUSED)
            if not named:
                print(
                    outcome.what,
                    "|",
                    " ".join(case.args)[:160],
                    "|",
                    case.files.get("bad.yaml", b"")[:80],
                    "|",
                    outcome.line[-160:],
                    file=sys.stderr,
                    flush=True,
                )
            log.write(json.dumps({"group": case.group, "args": [a[:200] for a in case.args], **vars(outcome)}) + "\n")
            log.flush()
    print(as_markdown(table))
    print(f"\nslowest call: {slowest:.1f} s")


def as_markdown(table: dict[str, Counter[str]]) -> str:
    """The table of what came of how many."""
    columns = [
        what for what in (REFUSED, NAMED, ALLOWED, ACCEPTED, TRACEBACK, HANG, EXECUTED, LEFT, CRASH, LONG, SILENT)
    ]
    lines = [f"| calls | number | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 2)]
    for group, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        lines.append(f"| {group} | {counts.total()} | {' | '.join(str(counts[what] or '') for what in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
