"""What a command takes from a checkpoint or the folder of a run, so that nobody types settings again.

What config and command line say stands; what they leave open is filled in: the window and the statistics of the clips,
and the model that a fine-tuned checkpoint is of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_info

from diffmavil.commands.resume import last_checkpoint, root_of
from diffmavil.models.checkpoint_folder import META, read_folder_meta
from diffmavil.models.checkpoints import MARK, CheckpointError, read_checkpoint
from diffmavil.models.origin import Origin, origin_of
from diffmavil.modules import FineTuneModule, LinearProbe
from diffmavil.modules.base import TrainedModule
from diffmavil.run_folder import CONFIG, LOGS, RunFolderError, checkpoint_of, find_run

_DOWNSTREAM: Final = (FineTuneModule, LinearProbe)
"""Modules that begin with the encoders of a pretraining's ``model.checkpoint``."""

NAMES: Final = ("best", "hpc")
"""Checkpoints that Lightning finds itself, or refuses in a line."""


@dataclass
class Taken:
    """What a command line becomes, and the checkpoint that it works with.

    Args:
        before: Arguments that go before all others, so that those stand against them.
        after: Arguments that go behind them.
        checkpoint: What the trainer loads; ``None`` for nothing, or a name that Lightning looks up.
        of_run: Whether a training goes on in the folder of that checkpoint's run.
        content: What that checkpoint holds; of a folder of shards all but weights and optimiser.
    """

    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    checkpoint: Path | None = None
    of_run: bool = False
    content: dict[str, Any] | None = None


def take_run(args: Sequence[str]) -> tuple[list[str], Path | None]:
    """Take ``--run FOLDER`` out of a command line; without a ``--config``, the run's own takes its place.

    Args:
        args: The arguments.

    Returns:
        The other arguments, and the folder of the run, if one is named.

    Raises:
        RunFolderError: If there is no such run, or if it has no config where that is needed.
    """
    rest, folder = [], None
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--run":
            rest.append(word)
        elif folder is not None:
            raise RunFolderError(f"run must be given once, got {folder} and another")
        elif not (value := value if equals else next(words, "")):
            raise RunFolderError("run must be the folder of a run, got none")
        else:
            folder = Path(value)
    if folder is None:
        return rest, None
    run = find_run(folder)
    if not any(word.partition("=")[0] in ("--config", "-c") for word in rest):
        if not (run / CONFIG).is_file():
            raise RunFolderError(f"run must have a {CONFIG} where no --config is given, got {run}")
        # what the run itself was begun with is not what it is used with now, and it may have been moved
        root = run.parent.parent if run.parent.name == LOGS else run
        rest = ["--config", str(run / CONFIG), "--ckpt_path=null", f"--trainer.default_root_dir={root}", *rest]
    return rest, run


def take(command: str, config: Namespace, run: Path | None) -> Taken:
    """Find the checkpoint that a command asks for, and what it says.

    Args:
        command: fit, validate, test or predict.
        config: What was parsed of the command line.
        run: The run that it names, if any.

    Raises:
        CheckpointError: If there is none, if it cannot be read, or if the command has no use for it.
    """
    taken = _asked_for(command, config, run)
    is_downstream = issubclass(_class_of(config), _DOWNSTREAM)
    of_model = taken.after[1] if taken.after else config.model.init_args.get("checkpoint") if is_downstream else None
    source = taken.checkpoint or (None if of_model is None else Path(of_model))
    if source is None or (content := taken.content or _content(source)) is None:
        return taken
    name = f"checkpoint {source}"
    if taken.checkpoint is not None:
        taken.content = content
    origin = origin_of(content, name)
    found: dict[str, Any] = {}
    if origin.window is not None:
        found["data"] = origin.window.of(config.data.modalities)
    if taken.checkpoint is not None:
        if builder := _builder(config, origin):
            taken.after += ["--model.backbone", json.dumps(builder)]
        # the pretraining's weights are not going to be used, and its file may be gone
        is_needed = command == "fit" and of_model is not None and Path(of_model).is_file()
        if of_model is not None and not is_needed and (builder or _has_backbone(config)):
            taken.after += ["--model.checkpoint", "null"]
    if found:
        taken.before += ["--config", json.dumps(found)]
    return taken


def _asked_for(command: str, config: Namespace, run: Path | None) -> Taken:
    """The checkpoint that ``--run`` or ``--ckpt_path`` means."""
    path = config.ckpt_path
    kind = _class_of(config)
    taken = Taken() if run is None else _of_run(kind, config, run)
    if path is None or path in NAMES or taken.checkpoint is not None:
        return taken
    if issubclass(kind, LinearProbe):
        raise CheckpointError(
            f"ckpt_path must be left out for {kind.__name__}, which is not trained itself: name what it measures by "
            f"--model.checkpoint or --run, got {path}"
        )
    if "://" in path:
        raise CheckpointError(f"ckpt_path must be a file of this machine, got {path}")
    if path != "last":
        taken.checkpoint = Path(path)
        return taken
    root, found = root_of(config.trainer), last_checkpoint(config.trainer)
    if found is None and command != "fit":
        raise CheckpointError(f"--ckpt_path last needs a last checkpoint under {root}, got none")
    rank_zero_info(f"last checkpoint under {root}: {found or 'none, so this run begins anew'}")
    taken.checkpoint, taken.of_run = found, found is not None
    return taken


def _of_run(kind: type, config: Namespace, run: Path) -> Taken:
    """What a run's checkpoint is for a command: what it continues or measures, or where its model is from."""
    checkpoint = checkpoint_of(run)
    content = _content(checkpoint)
    mark = (content or {}).get(MARK)
    of = mark.get("module") if isinstance(mark, dict) else None
    if issubclass(kind, TrainedModule) and (content is None or of == kind.kind()):
        _require_none("ckpt_path", config.ckpt_path, checkpoint)
        return Taken(checkpoint=checkpoint, of_run=True, content=content)
    if issubclass(kind, _DOWNSTREAM) and of == "PretrainModule":
        _require_none("model.checkpoint", config.model.init_args.get("checkpoint"), checkpoint)
        return Taken(after=["--model.checkpoint", str(checkpoint)])
    of = of or "no module of diffmavil"
    raise CheckpointError(f"run must be one that {kind.__name__} can use, got {run} of {of}")


def _content(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint holds, of a folder of shards all but weights and optimiser; ``None`` of any other folder."""
    if not checkpoint.is_dir():
        return read_checkpoint(checkpoint)
    return read_folder_meta(checkpoint) if (checkpoint / META).exists() else None


def _require_none(name: str, value: object, checkpoint: Path) -> None:
    if value is not None:
        raise CheckpointError(f"{name} must be left out where run names the checkpoint, {checkpoint}, got {value}")


def _class_of(config: Namespace) -> type:
    """The class of a config's model, which the parser has imported."""
    module, _, name = config.model.class_path.rpartition(".")
    kind: type = getattr(import_module(module), name)
    return kind


def _has_backbone(config: Namespace) -> bool:
    return config.model.get("init_args", {}).get("backbone") is not None


def _builder(config: Namespace, origin: Origin) -> dict[str, Any] | None:
    """The builder of a fine-tuned checkpoint's model, where the config leaves it open."""
    is_open = issubclass(_class_of(config), _DOWNSTREAM) and not _has_backbone(config)
    return origin.builder if is_open else None
