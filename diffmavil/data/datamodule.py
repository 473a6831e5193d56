"""One data module for pretraining, fine-tuning and probing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from diffmavil.checks import MAX_BATCH, MAX_CLIPS, MAX_TIMEOUT_S, MAX_WORKERS, check_number, check_seed
from diffmavil.cores import available_cores
from diffmavil.data.batch_memory import Pools
from diffmavil.data.clip_table import ClipTable
from diffmavil.data.clips import SPLITS, ClipSource, SourceError
from diffmavil.data.dataset import ClipDataset, Item, Request
from diffmavil.data.empty_windows import EmptyWindows
from diffmavil.data.errors import NO_AUDIO, NO_VIDEO, MediaError, OneStreamError
from diffmavil.data.loader import ClipLoader, ResumableLoader
from diffmavil.data.lost import MOST_LOST, LostInARow
from diffmavil.data.order import AsListed, Balanced, Order, Positions, Shuffled, ShuffledInBlocks
from diffmavil.data.sampler import EpochSampler
from diffmavil.data.skips import SkippedClips
from diffmavil.data.splits import check_labels, hold_out, thin
from diffmavil.data.transforms import AudioTransform, centre_crop, random_crop, to_batch
from diffmavil.run_folder import free_number, numbered
from diffmavil.types import Batch, Modalities, RawBatch
from diffmavil.window import Window

_LOG: Final = logging.getLogger(__name__)
_MAX_CHOSEN_WORKERS: Final = 8
_SPLITS_OF_STAGE: Final = {"fit": ["train"], "validate": ["val"]}


class ClipDataModule(L.LightningDataModule):
    """Clips of sound and pictures, from any source, decoded as they are needed.

    Args:
        source: Where the clips come from.
        modalities: What to read; a clip without it is skipped.
        batch_size: Clips of a training batch, in each process.
        eval_batch_size: Clips of an evaluation batch, in each process; ``None``: ``batch_size``.
        num_workers: Processes that decode, for each training process; 0 decodes in the training process. Default: one
            for each core, without a GPU for every other one, shared among the training processes, at most 8.
        seed: Seed of the order, the windows, the crops and the choice of held-out and of few clips.
        clip_s: Window of sound in seconds.
        sample_rate_hz: Sample rate that the sound is brought to.
        num_mel_bins: Mel bins of the spectrogram.
        frame_shift_ms: Time from one spectrogram frame to the next, in milliseconds.
        audio_mean: Mean of the log-mel values; ``diffmavil stats`` measures it. Default: AudioSet's.
        audio_std: Their standard deviation. Default: AudioSet's.
        num_frames: Pictures of a window.
        fps: Pictures a second.
        image_size: Side of the pictures in pixels.
        short_side: Pixels to which the shorter side of larger pictures is brought as they are decoded.
        crop_min_scale: Smallest part of the picture's area that the random crop in training keeps, in (0, 1].
        horizontal_flip: Whether training mirrors the pictures of every other clip.
        multi_label: Whether labels are 0/1 indicators of all classes instead of one class id.
        labels_per_class: Thin the train split to this many clips a class; ``None``: keep all.
        balanced: Draw training clips by the inverse frequency of their labels, with replacement.
        clips_per_epoch: Clips of a training epoch; ``None``: as many as there are.
        shuffle_shards: Shards whose clips are shuffled together, where storage is far away; ``None``: all clips are.
        eval_windows: Most windows of a clip in evaluation, spread evenly over it; their scores are averaged. A batch
            then has up to so many times ``eval_batch_size`` windows.
        val_fraction: Part of the train split's files to hold out where there is no val split, in [0, 1).
        test_splits: Splits that ``test`` reads; a linear probe needs ``[train, test]``.
        timeout_s: Seconds that reading a clip may take.
        on_error: What to do about a clip that cannot be read: leave it out and say so at the end, or stop.

    Attributes:
        clips: All clips of the source, after ``setup``.
        split_indices: Positions in ``clips`` of the train, val and test split.
        skipped: Clips that could not be read so far, by their position.
        empty_windows: Silent and still windows that the training has read so far.
        batch_size_of_epoch: Batch size of an epoch, where it changes over training (set by a callback).

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        *,
        source: ClipSource,
        modalities: Modalities = "audio_video",
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        clip_s: float = 10.24,
        sample_rate_hz: int = 16000,
        num_mel_bins: int = 128,
        frame_shift_ms: float = 10.0,
        audio_mean: float = -4.2677393,
        audio_std: float = 4.5689974,
        num_frames: int = 8,
        fps: float = 2.0,
        image_size: int = 224,
        short_side: int = 256,
        crop_min_scale: float = 0.5,
        horizontal_flip: bool = True,
        multi_label: bool = False,
        labels_per_class: int | None = None,
        balanced: bool = False,
        clips_per_epoch: int | None = None,
        shuffle_shards: int | None = None,
        eval_windows: int = 1,
        val_fraction: float = 0.0,
        test_splits: list[str] = ["test"],  # noqa: B006 (config schema)
        timeout_s: float = 30.0,
        on_error: Literal["skip", "raise"] = "skip",
    ) -> None:
        super().__init__()
        check_number("batch_size", batch_size, at_least=1, limit=MAX_BATCH)
        check_number("eval_batch_size", eval_batch_size, at_least=1, limit=MAX_BATCH, optional=True)
        check_number("num_workers", num_workers, at_least=0, limit=MAX_WORKERS, optional=True)
        check_seed("seed", seed)
        check_number("clip_s", clip_s, above=0, limit=3600)
        check_number("sample_rate_hz", sample_rate_hz, at_least=1000, limit=768_000)
        check_number("num_mel_bins", num_mel_bins, at_least=4, limit=4096)
        check_number("frame_shift_ms", frame_shift_ms, above=0, limit=10_000)
        check_number("audio_mean", audio_mean, at_least=-1000, at_most=1000)
        check_number("audio_std", audio_std, above=0, limit=1000)
        check_number("num_frames", num_frames, at_least=1, limit=10_000)
        check_number("fps", fps, above=0, limit=1000)
        check_number("image_size", image_size, at_least=1, limit=4096)
        check_number("short_side", short_side, at_least=image_size, limit=8192)
        check_number("crop_min_scale", crop_min_scale, above=0, at_most=1)
        check_number("labels_per_class", labels_per_class, at_least=1, limit=MAX_CLIPS, optional=True)
        check_number("clips_per_epoch", clips_per_epoch, at_least=1, limit=MAX_CLIPS, optional=True)
        check_number("shuffle_shards", shuffle_shards, at_least=1, limit=1_000_000, optional=True)
        check_number("eval_windows", eval_windows, at_least=1, limit=1000)
        check_number("val_fraction", val_fraction, at_least=0, below=1)
        check_number("timeout_s", timeout_s, above=0, limit=MAX_TIMEOUT_S)
        if round(frame_shift_ms * sample_rate_hz / 1000) < 1:
            raise ValueError(f"frame_shift_ms must be at least a sample at {sample_rate_hz} Hz, got {frame_shift_ms}")
        if balanced and shuffle_shards is not None:
            raise ValueError(f"shuffle_shards must be left out with balanced, got {shuffle_shards}")
        if clip_s * 1000 < frame_shift_ms:
            raise ValueError(f"clip_s must be at least a frame shift of {frame_shift_ms} ms, got {clip_s}")
        if modalities == "audio_video" and num_frames / fps > clip_s + 1e-3:
            raise ValueError(f"num_frames / fps must be at most clip_s = {clip_s} s, got {num_frames / fps:g} s")
        self.source = source
        self.modalities: Modalities = modalities
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.num_frames = num_frames
        self.fps = fps
        self.image_size = image_size
        self.short_side = short_side
        self.crop_min_scale = crop_min_scale
        self.horizontal_flip = horizontal_flip
        self.multi_label = multi_label
        self.labels_per_class = labels_per_class
        self.balanced = balanced
        self.clips_per_epoch = clips_per_epoch
        self.shuffle_shards = shuffle_shards
        self.eval_windows = eval_windows
        self.val_fraction = val_fraction
        if not test_splits or not set(test_splits) <= set(SPLITS):
            raise ValueError(f"test_splits must be some of {', '.join(SPLITS)}, got {test_splits}")
        self.test_splits = test_splits
        self.timeout_s = timeout_s
        self.on_error = on_error
        self.audio_transform = AudioTransform(
            clip_s=clip_s,
            sample_rate_hz=sample_rate_hz,
            num_mel_bins=num_mel_bins,
            frame_shift_ms=frame_shift_ms,
            mean=audio_mean,
            std=audio_std,
        )
        self.clips = ClipTable([])
        self.split_indices: dict[str, Positions] = {}
        self.skipped = SkippedClips()
        self.empty_windows = EmptyWindows()
        self._counts_from_resume = False
        self.batch_size_of_epoch: Callable[[int], int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """List the clips, sort them into splits, and make sure that one of those that are needed can be read.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"`` or ``None`` for any.

        Raises:
            SourceError: If the source is not as it must be.
            OneStreamError: If none of the clips can be read, as the first lacks a stream.
            ValueError: If none can be read for another reason.
            MediaError: If ``on_error`` is ``"raise"`` and the first clip cannot be read.
        """
        if not self.clips:
            try:
                classes = self.source.class_names()
                self.clips = ClipTable(self.source.clips(), classes)
            except ValueError as error:  # from whatever a source of one's own reads with
                raise SourceError(str(error)) from error
            check_labels(self.clips, multi_label=self.multi_label, all_in_train=classes is None)
            self.split_indices = {split: self.clips.in_split(split) for split in SPLITS}
            self._require_no_thinning_across_folds()
            if self.val_fraction and not len(self.split_indices["val"]):
                train, val = hold_out(self.clips, self.split_indices["train"], self.val_fraction, self.seed)
                self.split_indices |= {"train": train, "val": val}
            if self.labels_per_class is not None:
                train = thin(self.clips, self.split_indices["train"], self.labels_per_class, self.seed)
                self.split_indices["train"] = train
        splits = self.test_splits if stage == "test" else _SPLITS_OF_STAGE.get(stage or "", list(SPLITS))
        indices = np.concatenate([self.split_indices[split] for split in splits])
        if not len(indices):
            names = " or ".join(splits)
            command = "test" if stage == "test" else str(getattr(stage, "value", stage))
            raise ValueError(f"{command} needs clips of split {names}, got {len(self.clips)} clips but none of it")
        self._require_readable(indices)

    def _require_no_thinning_across_folds(self) -> None:
        """Where each fold is the test split once, no clip may be left out of all of them."""
        if not len(self.split_indices["test"]) and self.clips.has_folds:
            for name, value in (("labels_per_class", self.labels_per_class), ("val_fraction", self.val_fraction)):
                if value:
                    raise ValueError(
                        f"{name} must be left out where all folds are tested, got {value}; set source.fold"
                    )

    def _require_readable(self, indices: Positions) -> None:
        """Read the first clip, or else others until one can be read."""
        dataset = self._dataset(indices, training=False, modalities=self.modalities)
        request, lost = Request(0, int(indices[0])), LostInARow(MOST_LOST)
        memory = Pools(shared=False).begin(1)
        item = dataset.first_readable(request, memory, lost, others=self.on_error == "skip")
        if item.samples:
            return
        errors = [MediaError(skip.path, skip.reason, skip.detail) for skip in item.skips]
        if self.on_error == "raise":
            raise errors[0]
        tried = f"the {len(indices)}" if len(errors) == len(indices) else f"{len(errors)} of the {len(indices)}"
        what = f"none of {tried} clips can be read as {self.modalities}"
        if lost.is_gone:
            raise ValueError(f"{what}: the storage seems to be gone; the last: {errors[-1]}")
        what = f"{what}; the first: {errors[0]}"
        if other := {NO_AUDIO: "video", NO_VIDEO: "audio"}.get(errors[0].reason):
            raise OneStreamError(what, other)
        raise ValueError(what)

    @property
    def audio_size(self) -> tuple[int, int]:
        """Frames and mel bins of a spectrogram."""
        return self.audio_transform.num_frames, self.audio_transform.num_mel_bins

    @property
    def video_size(self) -> tuple[int, int, int]:
        """Frames, height and width (pixels) of a video."""
        return self.num_frames, self.image_size, self.image_size

    @property
    def window(self) -> Window:
        """What is read of a clip, and how its spectrogram is normalised."""
        sound = self.audio_transform
        return Window(
            clip_s=sound.clip_s,
            sample_rate_hz=sound.sample_rate_hz,
            num_mel_bins=sound.num_mel_bins,
            frame_shift_ms=sound.frame_shift_ms,
            audio_mean=sound.mean,
            audio_std=sound.std,
            num_frames=self.num_frames,
            fps=self.fps,
            image_size=self.image_size,
            short_side=self.short_side,
        )

    @property
    def classes(self) -> list[str]:
        """Names of the classes, by class id; empty for clips without labels."""
        return self.clips.classes

    @property
    def num_epoch_clips(self) -> int:
        """Training clips of an epoch, those of all processes together."""
        return len(self.split_indices["train"]) if self.clips_per_epoch is None else self.clips_per_epoch

    def train_dataloader(self) -> DataLoader[Item]:
        """Loader of this process's part of the trainer's current epoch (of epoch 0 without a trainer).

        Raises:
            ValueError: If the batch size changes but the trainer does not ask for a loader in each epoch.
        """
        epoch = 0
        if self.trainer is not None:
            epoch = self.trainer.current_epoch
            every: int = self.trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
            if self.batch_size_of_epoch is not None and every != 1:
                raise ValueError(f"trainer.reload_dataloaders_every_n_epochs must be 1, got {every}")
        rank, world = self._place()
        sampler = EpochSampler(
            order=self._training_order(),
            batch_size=self.batch_size_of_epoch or self.batch_size,
            training=True,
            epoch=epoch,
            rank=rank,
            world=world,
            overfit=self.trainer is not None and self.trainer.overfit_batches > 0,  # type: ignore[attr-defined]
        )
        dataset = self._dataset(self.split_indices["train"], training=True, modalities=self.modalities)
        return self._loader(dataset, sampler)

    def _training_order(self) -> Order:
        indices, clips = self.split_indices["train"], self.clips_per_epoch
        if self.balanced:
            weights = self.clips.inverse_frequencies(indices)
            return Balanced(indices, weights=weights, clips=clips, seed=self.seed)
        if self.shuffle_shards is not None:
            if self.clips.blocks is None:
                raise ValueError(
                    f"shuffle_shards must be left out where clips lie in no shards, got {self.shuffle_shards}"
                )
            blocks = self.clips.blocks[indices]
            return ShuffledInBlocks(indices, blocks=blocks, together=self.shuffle_shards, clips=clips, seed=self.seed)
        return Shuffled(indices, clips=clips, seed=self.seed)

    def val_dataloader(self) -> DataLoader[Item] | list[DataLoader[Item]]:
        """Loader of the val split; an empty list without one."""
        if len(self.split_indices["val"]):
            return self._split_loader(self.split_indices["val"])
        warnings.filterwarnings("ignore", message="Total length of `list`")  # this is our intention
        return []

    def test_dataloader(self) -> DataLoader[Item]:
        """Loader of ``test_splits``, one after the other."""
        return self._split_loader(np.concatenate([self.split_indices[split] for split in self.test_splits]))

    def predict_dataloader(self) -> DataLoader[Item]:
        """Loader of all clips."""
        warnings.filterwarnings("ignore", message="You are using a custom batch sampler")  # it drops no clips
        return self._split_loader(np.arange(len(self.clips)))

    def eval_dataloader(
        self, indices: Sequence[int] | Positions, *, modalities: Modalities | None = None
    ) -> DataLoader[Item]:
        """Loader of any clips, in order, with the windows of evaluation; each process reads all of them.

        Its batches become a model's by ``prepare``.

        Args:
            indices: Positions of the clips.
            modalities: What to decode, if less than the data module's. A clip must have all of those all the same.
        """
        order = AsListed(indices)
        dataset = self._dataset(order.indices, training=False, modalities=self.modalities, decoded=modalities)
        return self._loader(dataset, EpochSampler(order=order, batch_size=self.eval_batch_size, training=False))

    def _split_loader(self, indices: Positions) -> DataLoader[Item]:
        rank, world = self._place()
        sampler = EpochSampler(
            order=AsListed(indices), batch_size=self.eval_batch_size, training=False, rank=rank, world=world
        )
        return self._loader(self._dataset(indices, training=False, modalities=self.modalities), sampler)

    @property
    def workers(self) -> int:
        """Processes that decode, for each training process."""
        if self.num_workers is not None:
            return self.num_workers
        processes = 1 if self.trainer is None else self.trainer.num_devices
        cores = max(1, available_cores() // processes)
        if not torch.cuda.is_available():  # the others compute
            cores = max(min(2, cores), cores // 2)
        return min(_MAX_CHOSEN_WORKERS, cores)

    def _loader(self, dataset: ClipDataset, sampler: EpochSampler) -> DataLoader[Item]:
        kind = ResumableLoader if sampler.training else ClipLoader
        return kind(
            dataset,
            batch_sampler=sampler,
            num_workers=self.workers,
            collate_fn=dataset.collate,  # type: ignore[arg-type]  # a batch is read as a whole, not as a list
            pin_memory=torch.cuda.is_available(),
            # a loader that lives for one epoch would only keep its processes too long
            persistent_workers=self.workers > 0 and sampler.training and self.batch_size_of_epoch is None,
        )

    def _dataset(
        self, indices: Positions, *, training: bool, modalities: Modalities, decoded: Modalities | None = None
    ) -> ClipDataset:
        crop = partial(random_crop, min_scale=self.crop_min_scale, flip=self.horizontal_flip)
        return ClipDataset(
            clips=self.clips,
            open=partial(self.source.open, timeout_s=self.timeout_s),
            indices=indices,
            modalities=modalities,
            decoded=decoded,
            training=training,
            replace=self.on_error == "skip",
            seed=self.seed,
            audio=self.audio_transform,
            num_frames=self.num_frames,
            fps=self.fps,
            short_side=self.short_side,
            crop=crop if training else centre_crop,
            windows=self.eval_windows,
            num_indicators=len(self.classes) if self.multi_label else None,
        )

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def prepare(self, raw: RawBatch, device: torch.device | str) -> Batch:
        """Do by hand what Lightning does with a batch of a loader: note its skips, move it, transform it."""
        raw = self.on_before_batch_transfer(raw, 0)
        raw = self.transfer_batch_to_device(raw, torch.device(device), 0)
        return to_batch(raw, self.audio_transform, self.video_size)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note skipped clips and empty windows, and drop counts that say nothing, while they can be read for free.

        Raises:
            MediaError: If a clip could not be read and ``on_error`` is ``"raise"``, or if none could in its place.
        """
        if not isinstance(batch, RawBatch):
            return batch
        for skip in batch.skips:
            if self.on_error == "raise":
                raise MediaError(skip.path, skip.reason, skip.detail)
            self.skipped.add(skip)
        if batch.is_short:
            last = batch.skips[-1]
            detail = f"{last.detail}; nor can others that were tried be read: is the storage gone?"
            raise MediaError(last.path, last.reason, detail.removeprefix("; "))
        if self.trainer is not None and self.trainer.training:
            self.empty_windows.add(batch)
        num_samples, num_frames = batch.num_samples, batch.num_frames
        if num_samples is not None and bool((num_samples == self.audio_transform.num_samples).all()):
            num_samples = None
        if num_frames is not None and bool((num_frames == self.num_frames).all()):
            num_frames = None
        return replace(batch, skips=[], silent=None, still=None, num_samples=num_samples, num_frames=num_frames)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Compute, on the device, what a model reads."""
        if not isinstance(batch, RawBatch):
            return batch
        return to_batch(batch, self.audio_transform, self.video_size)

    def state_dict(self) -> dict[str, Any]:
        """Clips skipped and windows counted so far, for a checkpoint; of several processes it keeps the first one's."""
        return {"skipped": self.skipped.state(), "empty_windows": self.empty_windows.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from a checkpoint, where its training goes on."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if self.trainer.is_global_zero:
            self.skipped.load(state_dict.get("skipped"))
        counts = state_dict.get("empty_windows")  # older checkpoints have none
        if counts is not None and self.trainer.is_global_zero:
            self.empty_windows.load(counts)
        else:
            self._counts_from_resume = True

    def teardown(self, stage: str | None = None) -> None:
        """Say how many clips were skipped and why, and list them in ``skipped.csv`` in the run's folder.

        Where a training has such a list, another command's is ``skipped-v1.csv`` and so on. After a training it says
        also how many of its windows were silent or still; each of several processes says its own.
        """
        folder = None
        if self.trainer is not None:  # log_dir is a broadcast: all ranks must ask, also those that skipped nothing
            folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        if stage == "fit" and (counts := self.empty_windows.summary()):
            rank = self._place()[0] if self._place()[1] > 1 else None
            since = " since the run was resumed" * self._counts_from_resume
            _LOG.warning(("" if rank is None else f"rank {rank}: ") + counts + since)
        if not self.skipped:
            return
        listed = ""
        if folder is not None and self.trainer is not None:
            name = "skipped.csv" if self.trainer.world_size == 1 else f"skipped_rank{self.trainer.global_rank}.csv"
            # a training replaces its own list; what is measured in its folder has one beside it
            path = folder / numbered(name, 0 if stage == "fit" else free_number(folder, [name]))
            self.skipped.write(path)
            listed = f"; listed in {path}"
        _LOG.warning(self.skipped.summary(len(self.clips)) + listed)
