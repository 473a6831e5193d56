"""The command ``diffmavil``: finds the command and the config, and tells a user's mistake from a bug.

Heavy packages are imported by the command that needs them, so that the help and the small commands are quick.
"""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import sys
import traceback
from argparse import ArgumentError
from contextlib import redirect_stdout, suppress
from importlib import import_module
from types import ModuleType, TracebackType

from diffmavil import __version__
from diffmavil.commands.configs import find_configs, packaged_configs

TRAINING = {
    "fit": "train: pretraining or fine-tuning, as the config says",
    "validate": "measure on the validation split",
    "test": "measure on the test split; with linear_probe.yaml, the whole probe",
    "predict": "run the model over all clips and write predictions.npz: features, or probabilities",
}
"""Commands of the trainer: LightningCLI, in diffmavil/commands/train.py."""

OWN_PARSER = {
    "stats": "measure the mean and standard deviation of a data set's spectrograms",
    "flops": "print what a training is going to compute, by part and by epoch",
    "compare": "print what one training saves against another: A B, two configs or the folders of two runs",
    "report": "write a page about a run: its curves and scores, reconstructions of held-out clips; or about several",
    "bench": "measure here what a training step costs; bench data | scale: what reading does; bench gpu: all on a GPU",
    "cross-validate": "fit and test with every fold as the test split once; mean and standard deviation",
}
"""Commands with a parser of their own: NAME is the function NAME in diffmavil.commands.NAME (- becomes _)."""

OTHER = {
    "synth": "write a made data set: .mp4 clips in which what is seen causes what is heard",
    "prepare": "check the clips of a data set and write them into shards, which feed a training ten times as fast",
    "demo": "the whole of it on made clips: pretrain, probe, fine-tune, one page of results",
}
"""Other commands: NAME is the function NAME in diffmavil/commands/NAME.py, whose docstring is its help."""


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: What follows ``diffmavil`` on the command line; ``None`` takes it from there.

    Returns:
        Exit code: 0 done, 1 a bug (with its traceback), 2 a mistake of the user or a training that diverged (one line),
            130 interrupted, 143 terminated.
    """
    args = sys.argv[1:] if argv is None else argv
    debug = "--debug" in args
    try:
        _run([arg for arg in args if arg != "--debug"])
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stop:
        # Lightning turns Ctrl-C into exit code 1, and SIGTERM into 0.
        if type(stop).__name__ == "SIGTERMException":
            print("diffmavil: terminated", file=sys.stderr)
            return 128 + signal.SIGTERM
        return _interrupted() if isinstance(stop.__context__, KeyboardInterrupt) else int(stop.code or 0)
    except Exception as error:
        users = _is_for_the_user(error)
        if debug or not users:
            traceback.print_exc()
        if users:
            print(f"diffmavil: error: {_line(error, args)}", file=sys.stderr)
        return 2 if users else 1
    return 0


def _run(args: list[str]) -> None:
    command = args[0] if args else "--help"
    if command in ("--help", "-h"):
        print(_help())
    elif command == "--version":
        print(f"diffmavil {__version__}")
    elif command in TRAINING | OWN_PARSER | OTHER:
        from diffmavil.commands.config_text import check_words, guard_parsers

        guard_parsers()
        check_words(args[1:])
        _run_command(command, args)
    else:
        from diffmavil.commands.suggest import did_you_mean, near_command

        commands = TRAINING | OWN_PARSER | OTHER
        meant = did_you_mean(near_command(command, commands))
        raise ArgumentError(None, f"command must be one of {', '.join(commands)}, got {command}{meant}")


def _run_command(command: str, args: list[str]) -> None:
    if command in TRAINING:
        train, leave_group = _imported("train").train, _imported("launcher").leave_group
        train([command, *find_configs(args[1:])], descriptions=TRAINING)
        leave_group()
    elif command in OWN_PARSER:
        name = command.replace("-", "_")
        getattr(_imported(name), name)(find_configs(args[1:]))
    else:
        from jsonargparse import auto_cli

        module = _imported(command)
        auto_cli(
            getattr(module, command),
            args=_with_first_word(module, find_configs(args[1:])),
            as_positional=False,
            prog=f"diffmavil {command}",
            exit_on_error=False,
            allow_abbrev=False,
        )


def _imported(name: str) -> ModuleType:
    """A module of ``diffmavil.commands``, imported without looking for garbage, which takes a sixth of the time."""
    module = f"diffmavil.commands.{name}"
    if module in sys.modules:
        return sys.modules[module]
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.enable()
        gc.freeze()  # what is imported stays


def _with_first_word(module: ModuleType, words: list[str]) -> list[str]:
    """The command line with what its first word stands for, of a command that lets it stand for something."""
    named = getattr(module, "with_source", None)
    return named(words) if named is not None else words


def _help() -> str:
    return "\n".join(
        [
            "usage: diffmavil COMMAND [--config CONFIG] [--KEY VALUE ...] [--debug]",
            "",
            "Self-supervised pretraining on audio and video, and fine-tuning and probing of what it learned.",
            "",
            *(f"  {name:<16}{text}" for name, text in (TRAINING | OWN_PARSER | OTHER).items()),
            "",
            "  --config CONFIG     a YAML file, or the name of a packaged one:",
            *(f"                      {name}" for name in packaged_configs()),
            "  --run FOLDER        fit, validate, test, predict with a run's checkpoint, and without --config with its",
            "                      config; the run's own folder, or the one that it was told to write to",
            "  --KEY VALUE         overrides a key of the config, e.g. --trainer.max_epochs 5",
            "  --print_config      print the config that the command line amounts to, and stop",
            "  --debug             show the traceback of an error",
            "  --version           print the version",
            "",
            "diffmavil COMMAND --help lists its keys, diffmavil fit --model.help CLASS those of a class.",
        ]
    )


_CHECKERS = {"diffmavil", "jsonargparse", "lightning"}
"""Packages whose ValueErrors are about what the user gave; others' say that we called them wrongly."""


def _is_for_the_user(error: Exception) -> bool:
    """Whether a line tells it all: what the parser, the file system, Lightning's checks and ours say."""
    if isinstance(error, (ArgumentError, OSError, UnicodeDecodeError, MemoryError)) or type(
        error
    ).__module__.startswith("diffmavil."):
        return True
    # Lightning's and torch's, by name to leave them unimported
    if type(error).__name__ in ("MisconfigurationException", "OutOfMemoryError"):
        return True
    module = _raised_in(error.__traceback__)
    package = module.partition(".")[0]
    if isinstance(error, (ValueError, OverflowError)):
        return package in _CHECKERS
    if isinstance(error, ImportError):  # a package that a callback, logger or strategy needs and that is not there
        return package == "lightning"
    if isinstance(error, RuntimeError):  # EarlyStopping's; a CPU's memory that is not enough
        return module.startswith("lightning.pytorch.callbacks.") or "DefaultCPUAllocator: can't allocate" in str(error)
    return False


def _raised_in(trace: TracebackType | None) -> str:
    """Name of the module in which an error was raised."""
    module = ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return module


def one_line(error: Exception) -> str:
    """What an error says, in one line; jsonargparse's trees of alternatives are cut down to what failed."""
    text = str(error)
    if text.startswith(("Parser key", "Does not validate against")):
        text = _innermost(text)
    elif match := re.match(r"Subcommand '\w+' does not accept option '(.*)'", text):
        text = f"unknown key {match[1]}"
    elif text.startswith("the following arguments are required"):
        text = re.sub(rf" (?:{'|'.join(TRAINING)})\.", " ", text)
    return " ".join(text.split()) or type(error).__name__


_NOISE = re.compile(
    r"Does not validate against|Subtypes: |Errors:$|Given value type: |Expected a path but "
    r"|Problem with given class_path|Not a valid subclass of|Subclass types expect one of"
    r"|a class path \(str\)|a dict with"
)
_TYPE = re.compile(r"Expected (?:an? )?(?:<class '(.+)'>|typing\.(.+))$")


def _innermost(tree: str) -> str:
    """The leaves of jsonargparse's message: an indented tree of keys, types tried and why each fails."""
    path: list[tuple[int, str]] = []  # column and name of each key above the line
    key, value = "", ""
    types: list[str] = []
    reasons: list[str] = []
    for line in tree.splitlines():
        text = line.lstrip(" -")
        column = len(line) - len(text)
        if match := re.match(r'Parser key "(.*?)":\s*(.*)', text):
            path = [(above, name) for above, name in path if above < column] + [(column, match[1])]
            key = ".".join(name for _, name in path)
            text = match[2]
        if match := re.match(r"Given value: (.*)", text):
            value = value or re.sub(r"NestedArg\(.*?val='?(.*?)'?\)$", r"\1", match[1])
        elif match := re.match(r"Option '(.*)' is not accepted", text):
            reasons.append(f"unknown key {key}.{match[1]}")
        elif "instantiatable class" in text:
            reasons.append(f"{key} must be named as a class before its keys, such as --{key} FolderSource")
        elif match := re.match(r"Expected a dot import path string: (.*)", text):
            reasons.append(f"{key}: no class is named {match[1]}")
        elif match := re.match(r"(Expected .*)\. Got value: (.*)", text):
            reasons.append(f"{key} must be {_type_name(match[1])}, got {match[2]}")
        elif _TYPE.match(text):
            types.append(_type_name(text))
        elif text and not _NOISE.match(text):
            reasons.append(f"{key}: {text}" if key else text)
    if reasons:
        return "; ".join(dict.fromkeys(reasons))
    return f"{key} must be {' or '.join(dict.fromkeys(types))}, got {value}"


def _type_name(expected: str) -> str:
    match = _TYPE.match(expected)
    name = (match[1] or match[2]) if match else expected.removeprefix("Expected ")
    return re.sub(r"^Literal\[(.*)\]$", r"one of \1", name).replace("NoneType", "null")


_LONGEST = 480
"""Characters of a line, of which an error's value may take most."""


def _line(error: Exception, args: list[str]) -> str:
    """What an error says, in one line that is not too long, with the whole key of what it is about."""
    from diffmavil.commands.given import given, with_key
    from diffmavil.commands.suggest import with_suggestion

    name = error.filename if isinstance(error, OSError) else None  # bytes or a number, if it was opened by such
    text = with_key(one_line(error), args, os.fsdecode(name) if isinstance(name, (str, bytes)) else None)
    if isinstance(error, ArgumentError):
        if args[:1] and args[0] in OTHER:
            args = [args[0], *_with_first_word(import_module(f"diffmavil.commands.{args[0]}"), args[1:])]
        text = with_suggestion(text, list(given(args)), lambda: _known_keys(args))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 125]} ... {text[-120:]}"


def _known_keys(args: list[str]) -> list[str]:
    """Keys of a command's own parser, by its help; cross-validate takes those of fit as well."""
    commands = [args[:2] if args[0] == "bench" and not args[1].startswith("-") else args[:1]]
    if args[0] == "cross-validate":
        commands.append(["fit"])
    printed = io.StringIO()
    for words in commands:
        with redirect_stdout(printed), suppress(SystemExit):
            _run([*words, "--help"])
    return re.findall(r"^ +(?:-\w[\w ]*, )?--(\w[\w.-]*)", printed.getvalue(), re.MULTILINE)


def _interrupted() -> int:
    print("diffmavil: interrupted", file=sys.stderr)
    return 130
