"""``diffmavil fit | validate | test | predict``: LightningCLI over our modules, callbacks and data."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from jsonargparse._deprecated import JsonargparseDeprecationWarning  # has no public name
from lightning import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy

# Imported for their names: a config may name a class of these without its path.
import diffmavil.callbacks
import diffmavil.modules  # noqa: F401
from diffmavil import __version__
from diffmavil.checkpoint_io import AtomicCheckpointIO
from diffmavil.commands.cores import leave_cores
from diffmavil.commands.launcher import end_with_launcher
from diffmavil.commands.resume import newest_checkpoint, run_of
from diffmavil.data import ClipDataModule
from diffmavil.models.checkpoints import CheckpointError, check_shapes, read_checkpoint, weights_of
from diffmavil.modules.base import TrainedModule


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
        """Parse the given list; Lightning would warn that ``sys.argv`` says something else."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Let config and command line stand.

        Lightning lets the hyperparameters inside a checkpoint override both without a word, even the class of
        the model. There is no public way to turn this off (Lightning pull request 21455).
        """

    def before_instantiate_classes(self) -> None:
        """Choose the precision where none is given, so that the same config serves a GPU and a CPU.

        ``config.yaml`` of the run says what was chosen.
        """
        trainer = self.config[self.subcommand].trainer
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
        if isinstance(self.trainer.accelerator, CPUAccelerator):
            leave_cores(self.datamodule.num_workers)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, whose checks raise whatever comes to hand; it writes checkpoints whole or not at all.

        Raises:
            ConfigError: If a value is refused.
        """
        if root := self.config[self.subcommand]["trainer"]["default_root_dir"]:
            # a run that is gone on with must find its checkpoints under the very name that they were written under
            kwargs["default_root_dir"] = os.path.abspath(root)
        self._find_last_checkpoint()
        if self.subcommand == "fit" and self.last_checkpoint is not None:
            kwargs["logger"] = run_of(self.last_checkpoint)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(str(error)) from error
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

    def _find_last_checkpoint(self) -> None:
        """Find what ``--ckpt_path last`` means, where Lightning's own logger is in use.

        Raises:
            CheckpointError: If there is nothing to measure.
        """
        self.last_checkpoint: Path | None = None
        config = self.config[self.subcommand]
        if config["ckpt_path"] == "last" and config["trainer"]["logger"] in (None, True):
            root = Path(config["trainer"]["default_root_dir"] or ".").absolute()
            self.last_checkpoint = newest_checkpoint(root)
            if self.last_checkpoint is None and self.subcommand != "fit":
                raise CheckpointError(f"--ckpt_path last needs a last checkpoint under {root}, got none")

    def before_predict(self) -> None:
        """Have the predictions written to a file."""
        self.trainer.callbacks.append(diffmavil.callbacks.PredictionWriter())  # type: ignore[attr-defined]

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Arguments of the trainer's method, with the checkpoint looked at before any data is.

        Private, but Lightning has no public place for it.
        """
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if self.last_checkpoint is not None:
            kwargs["ckpt_path"] = str(self.last_checkpoint)
        ckpt_path = kwargs.get("ckpt_path")
        shards = isinstance(self.trainer.strategy, ModelParallelStrategy) and Path(ckpt_path or "").is_dir()
        # Lightning looks up last, best and hpc, and reads folders of shards; the modules check those.
        if ckpt_path not in (None, "last", "best", "hpc") and not shards:
            name = f"checkpoint {ckpt_path}"
            checkpoint = read_checkpoint(Path(ckpt_path))
            kind = self.model.kind() if isinstance(self.model, TrainedModule) else type(self.model).__name__
            weights = weights_of(checkpoint, module=kind, name=name)
            check_shapes(weights, self.model, name)
        return kwargs | {"weights_only": True}


def train(args: list[str], *, descriptions: dict[str, str] | None = None) -> DiffmavilCLI:
    """Run a command of the trainer.

    Args:
        args: The command and its options.
        descriptions: One line for the help of each command.

    Returns:
        The command after it has run, with its ``trainer``, ``model`` and ``datamodule``.

    Raises:
        ArgumentError: If a key is unknown or a value has the wrong type.
        ConfigError: If a value is refused.
        CheckpointError: If a checkpoint is not ours or does not fit the config.
    """
    end_with_launcher()
    with warnings.catch_warnings():
        # Lightning 2.6 calls functions of jsonargparse that are to go in its next major release (excluded in
        # pyproject.toml); a user can do nothing about it.
        warnings.simplefilter("ignore", JsonargparseDeprecationWarning)
        # and one of torch's that is deprecated since 2.11
        warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated")
        # Without a val split there are no validation batches; with several processes Lightning doubts it.
        warnings.filterwarnings("ignore", r"Total length of `list` across ranks is zero")
        # A test after a training writes to a folder of its own; the checkpoint callback remarks on it.
        warnings.filterwarnings("ignore", r"The dirpath has changed from")
        # Both are what --ckpt_path last is for, and it says what it found itself.
        warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")
        warnings.filterwarnings("ignore", r".*there is no last checkpoint available")
        # Lightning recommends a product of its makers at every start.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tip)
        return DiffmavilCLI(
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


def _no_tip(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
