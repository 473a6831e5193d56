"""Reading one window of one clip, and putting such windows together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from diffmavil.data.audit import STILL_LEVELS, check_segment, is_silent, moves
from diffmavil.data.batch_memory import BatchMemory, Parcel, Pools
from diffmavil.data.clip_table import ClipTable
from diffmavil.data.clips import Clip
from diffmavil.data.errors import (
    CANNOT_DECODE,
    CANNOT_OPEN,
    NO_AUDIO,
    NO_VIDEO,
    TOO_SHORT,
    MediaError,
)
from diffmavil.data.lost import MOST_LOST, LostInARow
from diffmavil.data.media import Media
from diffmavil.data.order import Positions
from diffmavil.data.transforms import AudioTransform, Crop
from diffmavil.types import Modalities, RawBatch, Skip


class Request(NamedTuple):
    """What is asked for.

    Args:
        epoch: The epoch.
        clip: Position of a clip in the list of clips.
        draw: Tells apart the draws of a clip that an epoch reads more than once.
    """

    epoch: int
    clip: int
    draw: int = 0


_MOST_CANDIDATES: Final = 1000
"""Clips that are tried in the place of an unreadable one."""

_SLIVER: Final = 0.05
"""Share of a window that gets no window of its own when it is left over."""


@dataclass
class Sample:
    """One window of one clip; the fields are those of ``RawBatch``, of one row.

    Its sound and pictures are in the batch's memory already, and are looked at before more is written there.
    """

    index: int
    waveform: npt.NDArray[np.int16] | None = None
    num_samples: int = 0
    frames: npt.NDArray[np.uint8] | None = None
    flipped: bool = False
    num_frames: int = 0
    silent: bool = False
    still: bool = False


@dataclass
class Item:
    """What a request gave: samples (in training one), clips that failed on the way, and whether all others fail too."""

    samples: list[Sample]
    skips: list[Skip] = field(default_factory=list)
    is_gone: bool = False


@dataclass
class Items:
    """What the requests of a batch gave, and the memory with their sound and pictures in it."""

    items: list[Item]
    memory: BatchMemory


class ClipDataset(Dataset[Item]):
    """Windows of clips, read by batches. All that is random follows from the request and the seed.

    A window is ``clip_s`` of sound, and ``num_frames / fps`` of pictures inside it: at random in training,
    centred in evaluation, or several spread evenly over a longer clip. A clip that is shorter is read whole, and
    padded at its end: sound with zeros, pictures with the last one. A clip that cannot be read is never an error: in
    training another one takes its place, in evaluation it is left out, and both say so in the item's ``skips``.

    Args:
        clips: All clips of the data set.
        open: Opens one of them, such as :meth:`diffmavil.data.ClipSource.open`.
        indices: Positions of those that may take the place of an unreadable one.
        modalities: What a clip must have.
        decoded: What of that is read; ``None``: all. Damage in the rest is not found then.
        training: Whether windows are random.
        replace: Whether unreadable clips are replaced, in training.
        seed: Seed of all random choices.
        audio: Sizes of the sound's window.
        num_frames: Pictures of a window.
        fps: Pictures a second.
        short_side: Pixels to which the shorter side of larger pictures is brought.
        crop: Chooses the part of pictures that is taken, from their height and width.
        windows: Most windows of a clip in evaluation.
        num_indicators: Number of classes for labels as 0/1 indicators; ``None`` for one class id a clip.
    """

    def __init__(
        self,
        *,
        clips: ClipTable,
        open: Callable[[Clip], Media],
        indices: Positions,
        modalities: Modalities,
        training: bool,
        replace: bool = True,
        seed: int,
        audio: AudioTransform,
        num_frames: int,
        fps: float,
        short_side: int,
        crop: Callable[[int, int], Crop],
        windows: int = 1,
        num_indicators: int | None = None,
        decoded: Modalities | None = None,
    ) -> None:
        self.clips = clips
        self.open = open
        self.indices = indices
        self.modalities = modalities
        decoded = decoded or modalities
        self.has_audio, self.has_video = decoded != "video", decoded != "audio"
        self.training = training
        self.replace = training and replace
        self.seed = seed
        self.audio = audio
        self.num_frames = num_frames
        self.fps = fps
        self.short_side = short_side
        self.crop = crop
        self.windows = windows
        self.num_indicators = num_indicators
        self._pools: Pools | None = None
        self._lost = LostInARow(MOST_LOST)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, requests: Sequence[Request]) -> Items:
        """Read a batch: of each clip a window; in training, failing that, one of the first other that can be read."""
        if self._pools is None:  # in the process that reads
            self._pools = Pools(shared=get_worker_info() is not None)
        memory = self._pools.begin(len(requests))
        return Items([self._item(request, memory) for request in requests], memory)

    def _item(self, request: Request, memory: BatchMemory) -> Item:
        if self.replace:
            item = self.first_readable(request, memory, LostInARow(MOST_LOST))
            item.is_gone = not item.samples
        else:
            item = self.first_readable(request, memory, self._lost, others=False)
            if self._lost.is_gone and not self.training:  # or there is a hole in the list, which others tell
                before = memory.ends
                item.is_gone = not self.first_readable(request, memory, LostInARow(MOST_LOST)).samples
                memory.cut(before)
                self._lost = LostInARow(MOST_LOST)
        return item

    def first_readable(self, request: Request, memory: BatchMemory, lost: LostInARow, *, others: bool = True) -> Item:
        """Read the wanted clip, or else the first of some others that can be read, until the storage seems to be gone.

        Args:
            request: What is wanted.
            memory: Where sound and pictures are written.
            lost: The clips that were lost before.
            others: Whether others are tried.

        Returns:
            What was read, and the clips that could not be.
        """
        skips: list[Skip] = []
        for candidate in self._candidates(request) if others else [request.clip]:
            try:
                samples = self.read(candidate, request, memory)
            except MediaError as error:
                skips.append(Skip(candidate, error.path, error.reason, error.detail))
                lost.note(error.reason)
                if lost.is_gone:
                    break
            else:
                lost.note(None)
                return Item(samples, skips)
        return Item([], skips)

    def _candidates(self, request: Request) -> Iterator[int]:
        yield request.clip
        most = min(len(self.indices), _MOST_CANDIDATES)
        order = np.random.default_rng((self.seed, *request)).choice(len(self.indices), most, replace=False)
        yield from (candidate for candidate in self.indices[order].tolist() if candidate != request.clip)

    def read(self, index: int, key: Request, memory: BatchMemory) -> list[Sample]:
        """Read the window of a clip, in evaluation all of its windows.

        Args:
            index: Position of the clip.
            key: What the random choices follow from, together with the seed.
            memory: Where sound and pictures are written.

        Raises:
            MediaError: If the clip cannot be read; nothing is written then.
            ValueError: If it is prepared in a way that does not serve.
        """
        clip, before = self.clips[index], memory.ends
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed devices that no worker uses, which takes a millisecond
            seed = np.random.SeedSequence((self.seed, *key)).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            try:
                with self.open(clip) as media:
                    start_s, end_s = self._segment(clip, media)
                    starts_s = self._starts_s(start_s, end_s)
                    return [self._read_window(index, media, window_s, end_s, memory) for window_s in starts_s]
            except MediaError:
                memory.cut(before)
                raise
            except OSError as error:  # of a source of one's own
                memory.cut(before)
                raise MediaError(clip.path, CANNOT_OPEN, str(error)) from error

    def _starts_s(self, start_s: float, end_s: float) -> list[float]:
        """Where the windows of a segment begin."""
        window_s = self.audio.clip_s if self.has_audio else self.num_frames / self.fps
        spare_s = max(0.0, end_s - start_s - window_s)
        count = min(self.windows, ceil((end_s - start_s) / window_s - _SLIVER))
        if self.training:
            places = torch.rand(1).tolist()
        else:
            places = np.linspace(0, 1, count).tolist() if count > 1 else [0.5]
        return [start_s + place * spare_s for place in places]

    def _read_window(self, index: int, media: Media, start_s: float, end_s: float, memory: BatchMemory) -> Sample:
        sample = Sample(index)
        if self.has_audio:
            self._read_audio(sample, media, start_s, end_s, memory)
        if self.has_video:
            video_s = self.num_frames / self.fps
            if self.has_audio:  # the pictures are a part of the sound's window
                place = float(torch.rand(())) if self.training else 0.5
                start_s += place * max(0.0, min(end_s - start_s, self.audio.clip_s) - video_s)
            self._read_frames(sample, media, start_s, end_s, memory)
        return sample

    def _segment(self, clip: Clip, media: Media) -> tuple[float, float]:
        """Start and end of the clip, within what the file has of the wanted streams."""
        wanted = [
            (self.modalities != "video", media.info.audio_s, NO_AUDIO),
            (self.modalities != "audio", media.info.shown_s, NO_VIDEO),
        ]
        start_s, wanted_s = clip.start_s or 0.0, inf if clip.end_s is None else clip.end_s
        end_s = wanted_s
        for is_wanted, span_s, reason in wanted:
            if is_wanted:
                if span_s is None:
                    raise MediaError(clip.path, reason)
                end_s = min(end_s, span_s[1])
        if end_s <= start_s:
            raise MediaError(
                clip.path, TOO_SHORT, f"the clip begins at {start_s:.2f} s, the file ends at {end_s:.2f} s"
            )
        check_segment(clip.path, wanted_s - start_s, end_s - start_s, media.cut_short_s)
        return start_s, end_s

    def _read_audio(self, sample: Sample, media: Media, start_s: float, end_s: float, memory: BatchMemory) -> None:
        size, rate = self.audio.num_samples, self.audio.sample_rate_hz
        samples = media.audio(start_s, min(end_s - start_s, size / rate), rate)
        if len(samples) == 0:
            raise MediaError(media.path, TOO_SHORT, f"no sound at {start_s:.2f} s")
        row = memory.waveform.append(size, dtype=np.int16)
        row[: len(samples)], row[len(samples) :] = samples, 0
        sample.waveform, sample.silent = row, is_silent(samples)
        sample.num_samples = size if len(samples) >= self.audio.min_samples else len(samples)

    def _read_frames(self, sample: Sample, media: Media, start_s: float, end_s: float, memory: BatchMemory) -> None:
        if media.max_fps is not None and self.fps > media.max_fps:
            raise ValueError(f"fps must be at most that of the prepared pictures, {media.max_fps:g}, got {self.fps:g}")
        times_s = [start_s + k / self.fps for k in range(self.num_frames)]
        times_s = [time_s for time_s in times_s if time_s < end_s]
        taken, shape = 0, None
        for taken, picture in enumerate(media.frames(times_s, self.short_side), 1):
            if sample.frames is None:
                shape = picture.shape
                crop = self.crop(*picture.shape[:2])
                rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
                sample.frames = memory.frames.append(self.num_frames, crop.height, crop.width, 3)
                sample.flipped, sample.num_frames = crop.flipped, len(times_s)
            if taken > len(times_s) or picture.shape != shape:
                break
            sample.frames[taken - 1] = picture[rows, columns]
        if sample.frames is None or taken != len(times_s) or picture.shape != shape:
            raise MediaError(media.path, CANNOT_DECODE, f"no {len(times_s)} pictures of one size")
        sample.frames[taken:] = sample.frames[taken - 1]
        if self.training and self.num_frames > 1:  # the last one first: most of what moves has moved by then
            sample.still = not any(moves(sample.frames[0], frame, STILL_LEVELS) for frame in sample.frames[:0:-1])

    def collate(self, read: Items) -> RawBatch | Parcel:
        """Put a batch together; where there are no samples, the streams have no rows.

        Returns:
            The batch; in a data worker, what arrives as one.
        """
        samples = [sample for item in read.items for sample in item.samples]
        batch = RawBatch(index=torch.tensor([s.index for s in samples], dtype=torch.long))
        batch.skips = [skip for item in read.items for skip in item.skips]
        batch.is_short = any(item.is_gone for item in read.items)
        if self.has_audio:
            batch.waveform = read.memory.waveform.bytes().view(torch.int16).view(-1, self.audio.num_samples)
            batch.num_samples = torch.tensor([s.num_samples for s in samples], dtype=torch.long)
            batch.silent = torch.tensor([s.silent for s in samples], dtype=torch.bool)
        if self.has_video:
            batch.frames = read.memory.frames.bytes()
            batch.frame_sizes = [(s.frames.shape[1], s.frames.shape[2]) for s in samples if s.frames is not None]
            batch.flipped = torch.tensor([s.flipped for s in samples], dtype=torch.bool)
            batch.num_frames = torch.tensor([s.num_frames for s in samples], dtype=torch.long)
            if self.training:
                batch.still = torch.tensor([s.still for s in samples], dtype=torch.bool)
        if self.clips.classes:
            batch.labels = self._labels([self.clips.class_ids(s.index) for s in samples])
        return Parcel(batch) if read.memory.shared else batch

    def _labels(self, targets: list[tuple[int, ...]]) -> Tensor:
        if self.num_indicators is None:
            return torch.tensor([ids[0] for ids in targets], dtype=torch.long)
        labels = torch.zeros(len(targets), self.num_indicators)
        for row, ids in zip(labels, targets, strict=True):
            row[list(ids)] = 1.0
        return labels
