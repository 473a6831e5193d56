"""Reading one window of one clip, and putting such windows together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from diffmavil.data.clips import Clip
from diffmavil.data.errors import NO_AUDIO, NO_VIDEO, TOO_SHORT, MediaError
from diffmavil.data.media import Media
from diffmavil.data.transforms import AudioTransform, Geometry
from diffmavil.types import Modalities, RawBatch, Skip

Request = tuple[int, int]
"""Epoch, and position of a clip in the list of clips."""


@dataclass
class Sample:
    """One window of one clip; the fields are those of ``RawBatch``."""

    index: int
    waveform: Tensor | None = None
    num_samples: int = 0
    frames: Tensor | None = None
    num_frames: int = 0


@dataclass
class Item:
    """What a request gave: a sample or none, and the clips that failed on the way."""

    sample: Sample | None
    skips: list[Skip] = field(default_factory=list)


class ClipDataset(Dataset[Item]):
    """Windows of clips. A request is ``(epoch, index)``, and all that is random follows from it and the seed.

    A window is ``clip_s`` of sound, and ``num_frames / fps`` of pictures inside it: at random in training,
    centred in evaluation. A clip that is shorter is read whole, and padded at its end: sound with zeros,
    pictures with the last one. A clip that cannot be read is never an error: in training another one takes
    its place, in evaluation it is left out, and both say so in the item's ``skips``.

    Args:
        clips: All clips of the data set.
        open: Opens one of them; see :meth:`diffmavil.data.ClipSource.open`.
        indices: Positions of those that may take the place of an unreadable one.
        modalities: What to read.
        training: Whether windows are random and unreadable clips are replaced.
        seed: Seed of all random choices.
        audio: Sizes of the sound's window.
        num_frames: Pictures of a window.
        fps: Pictures a second.
        geometry: Brings the pictures to their size.
        image_size: That size: their side in pixels.
        targets: Class ids of each clip; empty for data without labels.
        num_indicators: Number of classes for labels as 0/1 indicators; ``None`` for one class id a clip.
    """

    def __init__(
        self,
        *,
        clips: Sequence[Clip],
        open: Callable[[Clip], Media],
        indices: Sequence[int],
        modalities: Modalities,
        training: bool,
        seed: int,
        audio: AudioTransform,
        num_frames: int,
        fps: float,
        geometry: Geometry,
        image_size: int,
        targets: Sequence[tuple[int, ...]] = (),
        num_indicators: int | None = None,
    ) -> None:
        self.clips = clips
        self.open = open
        self.indices = indices
        self.has_audio, self.has_video = modalities != "video", modalities != "audio"
        self.training = training
        self.seed = seed
        self.audio = audio
        self.num_frames = num_frames
        self.fps = fps
        self.geometry = geometry
        self.image_size = image_size
        self.targets = targets
        self.num_indicators = num_indicators

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, request: Request) -> Item:
        """Read a clip's window; in training, failing that, one of the first other clip that can be read."""
        epoch, index = request
        skips: list[Skip] = []
        for candidate in self._candidates(epoch, index):
            try:
                return Item(self.read(candidate, (epoch, index)), skips)
            except MediaError as error:
                skips.append(Skip(candidate, error.path, error.reason, error.detail))
        return Item(None, skips)

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        yield index
        if self.training:
            order = np.random.default_rng((self.seed, epoch, index)).permutation(len(self.indices))
            yield from (self.indices[k] for k in order if self.indices[k] != index)

    def read(self, index: int, key: Request) -> Sample:
        """Read a window of a clip.

        Args:
            index: Position of the clip.
            key: What the random choices follow from, together with the seed.

        Raises:
            MediaError: If the clip cannot be read.
        """
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed devices that no worker uses, which takes a millisecond
            seed = np.random.SeedSequence((self.seed, *key)).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            places = torch.rand(2).tolist() if self.training else (0.5, 0.5)
            with self.open(self.clips[index]) as media:
                start_s, end_s = self._segment(self.clips[index], media)
                video_s = self.num_frames / self.fps
                window_s = self.audio.clip_s if self.has_audio else video_s
                start_s += places[0] * max(0.0, end_s - start_s - window_s)
                sample = Sample(index)
                if self.has_audio:
                    sample.waveform, sample.num_samples = self._read_audio(media, start_s, end_s)
                if self.has_video:
                    start_s += places[1] * max(0.0, min(end_s - start_s, window_s) - video_s)
                    sample.frames, sample.num_frames = self._read_frames(media, start_s, end_s)
        return sample

    def _segment(self, clip: Clip, media: Media) -> tuple[float, float]:
        """Start and end of the clip, within what the file has of the wanted streams."""
        wanted = [
            (self.has_audio, media.info.audio_s, NO_AUDIO),
            (self.has_video, media.info.video_s, NO_VIDEO),
        ]
        start_s, end_s = clip.start_s or 0.0, float("inf") if clip.end_s is None else clip.end_s
        for is_wanted, span_s, reason in wanted:
            if is_wanted:
                if span_s is None:
                    raise MediaError(clip.path, reason)
                end_s = min(end_s, span_s[1])
        if end_s <= start_s:
            raise MediaError(
                clip.path, TOO_SHORT, f"the clip begins at {start_s:.2f} s, the file ends at {end_s:.2f} s"
            )
        return start_s, end_s

    def _read_audio(self, media: Media, start_s: float, end_s: float) -> tuple[Tensor, int]:
        size, rate = self.audio.num_samples, self.audio.sample_rate_hz
        samples = media.audio(start_s, min(end_s - start_s, size / rate), rate)
        if len(samples) == 0:
            raise MediaError(media.path, TOO_SHORT, f"no sound at {start_s:.2f} s")
        count = size if len(samples) >= self.audio.min_samples else len(samples)
        return F.pad(torch.from_numpy(samples), (0, size - len(samples))), count

    def _read_frames(self, media: Media, start_s: float, end_s: float) -> tuple[Tensor, int]:
        times_s = [start_s + k / self.fps for k in range(self.num_frames)]
        times_s = [time_s for time_s in times_s if time_s < end_s]
        frames = self.geometry(rearrange(torch.from_numpy(media.frames(times_s)), "t h w c -> t c h w"))
        padding = frames[-1:].expand(self.num_frames - len(frames), -1, -1, -1)
        return torch.cat([frames, padding]), len(frames)

    def collate(self, items: Sequence[Item]) -> RawBatch:
        """Put the samples together; where there are none, the streams have no rows."""
        samples = [item.sample for item in items if item.sample is not None]
        batch = RawBatch(index=torch.tensor([s.index for s in samples], dtype=torch.long))
        batch.skips = [skip for item in items for skip in item.skips]
        if self.has_audio:
            waveforms = [s.waveform for s in samples if s.waveform is not None]
            nothing = torch.empty(0, self.audio.num_samples, dtype=torch.int16)
            batch.waveform = torch.stack(waveforms) if waveforms else nothing
            batch.num_samples = torch.tensor([s.num_samples for s in samples], dtype=torch.long)
        if self.has_video:
            frames = [s.frames for s in samples if s.frames is not None]
            nothing = torch.empty(0, self.num_frames, 3, self.image_size, self.image_size, dtype=torch.uint8)
            batch.frames = torch.stack(frames) if frames else nothing
            batch.num_frames = torch.tensor([s.num_frames for s in samples], dtype=torch.long)
        if self.targets:
            batch.labels = self._labels([self.targets[s.index] for s in samples])
        return batch

    def _labels(self, targets: list[tuple[int, ...]]) -> Tensor:
        if self.num_indicators is None:
            return torch.tensor([ids[0] for ids in targets], dtype=torch.long)
        labels = torch.zeros(len(targets), self.num_indicators)
        for row, ids in zip(labels, targets, strict=True):
            row[list(ids)] = 1.0
        return labels
