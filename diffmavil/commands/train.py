"""``diffmavil fit | validate | test | predict``: LightningCLI over our modules, callbacks and data."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jsonargparse import Namespace
from jsonargparse._deprecated import JsonargparseDeprecationWarning  # has no public name
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info

# Imported for their names: a config may name a class of these without its path.
import diffmavil.callbacks
import diffmavil.modules  # noqa: F401
from diffmavil import __version__
from diffmavil.checkpoint_io import AtomicCheckpointIO
from diffmavil.checks import check_seed
from diffmavil.commands.endings import told_in_a_line
from diffmavil.commands.from_checkpoint import take, take_run
from diffmavil.commands.launcher import end_with_launcher
from diffmavil.commands.nulls import refuse_nulls
from diffmavil.commands.own_callbacks import own_callbacks
from diffmavil.commands.refused_start import removed_if_refused
from diffmavil.commands.resume import logger_of
from diffmavil.commands.streams import one_stream_advice, require_streams
from diffmavil.commands.trainer_flags import blamed, check_flags
from diffmavil.commands.whole_patches import require_whole_patches
from diffmavil.cores import leave_cores
from diffmavil.data import ClipDataModule
from diffmavil.data.errors import OneStreamError
from diffmavil.metrics_file import METRICS
from diffmavil.models.checkpoint_folder import check_folder
from diffmavil.models.checkpoints import check_weights, read_checkpoint, weights_of
from diffmavil.models.mavil import Built
from diffmavil.modules import FineTuneModule, LinearProbe
from diffmavil.modules.base import TrainedModule
from diffmavil.modules.checkpoint_checks import check_checkpoint
from diffmavil.run_folder import CHECKPOINTS, COMPUTE, CONFIG


class ConfigError(Exception):
    """A config that parses, but from which the trainer, the model or the data cannot be built."""


class SaveTrainingConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the folder of a training; measuring leaves no files behind."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it when a training begins."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class DiffmavilCLI(LightningCLI):
    """Lightning's command with any of our modules as ``model`` and :class:`ClipDataModule` as ``data``.

    ``seed_everything`` (0 unless given) seeds the weights. Which clips, windows and crops are drawn follows
    ``data.seed`` alone, so that two models can be compared on the same data.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Arguments of the trainer's methods that are no keys; a checkpoint is always data, never code."""
        return {name: skip | {"weights_only"} for name, skip in LightningCLI.subcommands().items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the given list, and again with what its checkpoint says and it does not.

        Lightning's own would warn that ``sys.argv`` says something else.

        Raises:
            CheckpointError: If the checkpoint that is asked for is not there or cannot be used.
        """
        assert isinstance(args, list)
        command, *rest = args
        rest, run = take_run(rest)
        self.config = parser.parse_args([command, *rest])
        self.taken = take(command, self.config[command], run)
        if self.taken.before or self.taken.after:
            self.config = parser.parse_args([command, *self.taken.before, *rest, *self.taken.after])
        if not isinstance(seed := self.config[self.config.subcommand].seed_everything, bool):
            check_seed("seed_everything", seed)

    def _parse_ckpt_path(self) -> None:
        """Let config and command line stand.

        Lightning lets the hyperparameters inside a checkpoint override both without a word, even the class of
        the model. There is no public way to turn this off (Lightning pull request 21455).
        """

    def before_instantiate_classes(self) -> None:
        """Choose the precision where none is given, so that the same config serves a GPU and a CPU.

        ``config.yaml`` of the run says what was chosen.
        """
        config = self.config[self.subcommand]
        refuse_nulls(config.model, "model")
        refuse_nulls(config.data, "data", ClipDataModule)
        refuse_nulls(config.trainer, "trainer", Trainer)
        check_flags(vars(config.trainer))
        trainer = config.trainer
        if trainer.precision is None and trainer.plugins is None:  # a plugin may be one of precision
            on_gpu = trainer.accelerator in ("gpu", "cuda", "auto") and CUDAAccelerator.is_available()
            trainer.precision = "bf16-mixed" if on_gpu else "32-true"

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what their checks refuse is the config's fault.

        Raises:
            ConfigError: If a value is refused.
        """
        try:
            super().instantiate_classes()
        except (ValueError, ImportError) as error:
            raise ConfigError(str(error)) from error
        if isinstance(self.model, TrainedModule):
            self._note_builder(self.model)
        if isinstance(self.trainer.accelerator, CPUAccelerator):
            leave_cores(self.datamodule.workers)

    def _note_builder(self, module: TrainedModule) -> None:
        """Have checkpoints say how the model was built, as the config names it: a builder of one's own, too."""
        arguments = self.config[self.subcommand].model.get("init_args", {})
        spec = arguments.get("model") or arguments.get("backbone")
        if isinstance(spec, Namespace) and "class_path" in spec:
            given = spec.get("init_args")
            built = Built(class_path=spec.class_path, init_args={} if given is None else given.as_dict())
            module.origin = replace(module.origin, built=built)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, whose checks raise whatever comes to hand; it writes checkpoints whole or not at all.

        Raises:
            ConfigError: If a value is refused.
        """
        config = self.config[self.subcommand]["trainer"]
        if (root := config["default_root_dir"]) and "://" not in str(root):
            # a run that is resumed must find its checkpoints under the very name that they were written under
            kwargs["default_root_dir"] = os.path.abspath(root)
        if self.subcommand == "fit" and self.taken.of_run and self.taken.checkpoint is not None:
            step = (self.taken.content or {}).get("global_step")
            if logger := logger_of(config, self.taken.checkpoint, step):
                others = self.config_init[self.subcommand]["trainer"]["logger"]
                kwargs["logger"] = [logger, *others[1:]] if isinstance(others, list) else logger
        given = self.config_init[self.subcommand]["trainer"]["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        step = (self.taken.content or {}).get("global_step")
        own = own_callbacks(str(self.subcommand), self.config[self.subcommand], given, self.taken.checkpoint, step)
        kwargs["callbacks"] = [*given, *own]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
            raise ConfigError(blamed(error, vars(self.config[self.subcommand].trainer))) from error
        if config["fast_dev_run"]:  # Lightning says that it writes no checkpoints then, and yet writes the last one
            callbacks = trainer.callbacks  # type: ignore[attr-defined]
            callbacks[:] = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        self._require_every_process_sharded(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # the default, not one of the user's
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _require_every_process_sharded(self, trainer: Trainer) -> None:
        """Refuse another number of shards than processes, which Lightning would only do in its own words, late.

        Raises:
            ConfigError: If so.
        """
        if isinstance(trainer.strategy, ModelParallelStrategy):
            size = self.config[self.subcommand]["trainer"]["strategy"].get("init_args", {}).get("data_parallel_size")
            if size != (world := trainer.world_size):
                rule = f"must be the number of processes {world}, got {size}"
                raise ConfigError(f"trainer.strategy.data_parallel_size {rule}")

    def after_fit(self) -> None:
        """Say where everything lies."""
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)  # a broadcast: all ranks must ask
        if self.trainer.is_global_zero and (folder / CONFIG).is_file():
            if self.resumed_step == self.trainer.global_step:
                rank_zero_info("nothing was left to train; --trainer.max_epochs or --trainer.max_steps goes further")
            there = [name for name in (f"{CHECKPOINTS}/last.ckpt", METRICS, COMPUTE) if (folder / name).exists()]
            rank_zero_info(f"the run is in {folder}: {', '.join([CONFIG, *there])}")
            rank_zero_info(f"a page about it: diffmavil report {shlex.quote(str(folder))}")

    def before_predict(self) -> None:
        """Have the predictions written to a file."""
        self.trainer.callbacks.append(diffmavil.callbacks.PredictionWriter())  # type: ignore[attr-defined]

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it, once data and model are known to fit; a start that is refused leaves no folder behind.

        Private, but Lightning has no public place around a subcommand.
        """
        require_streams(self.model, self.datamodule, subcommand)
        require_whole_patches(self.model, self.datamodule)
        trainer = self.config[subcommand].trainer
        ends = (trainer.max_epochs, trainer.max_time, trainer.fast_dev_run or None)
        if subcommand == "fit" and ends == (None, None, None) and trainer.max_steps == -1:
            raise ConfigError("trainer.max_epochs or trainer.max_steps must be set, got neither")
        try:
            with removed_if_refused(self.trainer):
                super()._run_subcommand(subcommand)
        except OneStreamError as error:
            advice = one_stream_advice(self.model, error.stream, subcommand)
            raise ConfigError(f"{error.what}; {advice}") from error

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Arguments of the trainer's method, with the checkpoint looked at before any data is.

        Private, but Lightning has no public place for it.
        """
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        checkpoint = self.taken.checkpoint
        if checkpoint is not None or kwargs["ckpt_path"] == "last":  # what Lightning would take for last is another
            kwargs["ckpt_path"] = None if checkpoint is None else str(checkpoint)
        is_sharded = isinstance(self.trainer.strategy, ModelParallelStrategy) and Path(checkpoint or "").is_dir()
        if checkpoint is not None and is_sharded:
            check_folder(checkpoint, f"checkpoint {checkpoint}")  # what is in it, the modules check
        elif checkpoint is not None:
            name, known = f"checkpoint {checkpoint}", None if checkpoint.is_dir() else self.taken.content
            content = known or read_checkpoint(checkpoint)
            if isinstance(self.model, TrainedModule):
                resume = subcommand == "fit"
                check_checkpoint(
                    content, self.model, name=name, resume=resume, trainer=self.trainer, data=self.datamodule
                )
            else:
                check_weights(weights_of(content, module=type(self.model).__name__, name=name), self.model, name)
        self.resumed_step = (self.taken.content or {}).get("global_step")
        self.taken.content = None  # it maps the file, which a training is going to replace
        self._say_weights(kwargs["ckpt_path"])
        return kwargs | {"weights_only": True}

    def _say_weights(self, ckpt_path: str | None) -> None:
        """Say which weights the command begins with."""
        is_downstream = isinstance(self.model, (FineTuneModule, LinearProbe))
        of_model = self.model.checkpoint if is_downstream else None
        if ckpt_path is not None:
            rank_zero_info(f"weights: checkpoint {ckpt_path}")
        elif of_model is not None:
            rank_zero_info(f"weights: encoders of checkpoint {of_model}")
        elif self.subcommand == "fit":
            given = self.config["fit"].model.get("init_args", {})
            vits = [f"{part} encoder of {vit}" for part in ("audio", "video") if (vit := given.get(f"{part}_weights"))]
            rank_zero_info(f"weights: {', '.join([*vits, 'all else'])} untrained" if vits else _UNTRAINED)
        else:
            rank_zero_info("weights: untrained, as no checkpoint is named (--run, --ckpt_path or --model.checkpoint)")


_UNTRAINED: Final = "weights: untrained, as the config begins"


def train(
    args: list[str], *, descriptions: dict[str, str] | None = None, cli: type[DiffmavilCLI] = DiffmavilCLI
) -> DiffmavilCLI:
    """Run a command of the trainer.

    Args:
        args: The command and its options.
        descriptions: One line for the help of each command.
        cli: The class that runs it.

    Returns:
        The command after it has run, with its ``trainer``, ``model`` and ``datamodule``.

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ConfigError: If a value is refused.
        CheckpointError: If a checkpoint is not ours or does not fit the config.
    """
    end_with_launcher()
    with told_in_a_line(), warnings.catch_warnings():
        # Lightning 2.6 calls functions of jsonargparse that are to go in its next major release (excluded in
        # pyproject.toml); a user can do nothing about it.
        warnings.simplefilter("ignore", JsonargparseDeprecationWarning)
        # and one of torch's that is deprecated since 2.11
        warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated")
        # Without a val split there are no validation batches; with several processes Lightning doubts it.
        warnings.filterwarnings("ignore", r"Total length of `list` across ranks is zero")
        # A test after a training writes to a folder of its own; the checkpoint callback remarks on it.
        warnings.filterwarnings("ignore", r"The dirpath has changed from")
        # That is what continuing a run is for, and it says what it found itself.
        warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")
        # Lightning recommends a product of its makers at every start, and remarks on the summary being ours.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_remark)
        return cli(
            LightningModule,
            ClipDataModule,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            # the data module's sampler gives each process its part itself
            trainer_defaults={"use_distributed_sampler": False},
            # a second run into the same folder replaces config.yaml instead of dying at it
            save_config_callback=SaveTrainingConfig,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "prog": "diffmavil",
                "exit_on_error": False,
                "allow_abbrev": False,
                **{
                    name: {"description": text, "dump_header": [f"diffmavil=={__version__}"]}
                    for name, text in (descriptions or {}).items()
                },
            },
            args=args,
        )


def _no_remark(record: logging.LogRecord) -> bool:
    remarks = ("Tip: For seamless cloud", "Trainer already configured with model summary callbacks")
    return not any(remark in record.getMessage() for remark in remarks)
