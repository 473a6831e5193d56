"""Clips of prepared shards."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torchvision.transforms.v2 import functional as F

from diffmavil.checks import check_number
from diffmavil.data.clip_table import NO_NUMBER
from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.errors import CANNOT_DECODE, CANNOT_OPEN, MISSING_FILE, NO_AUDIO, NO_VIDEO, TIMED_OUT, MediaError
from diffmavil.data.media import TIMEOUT_S, Media, MediaInfo, Span
from diffmavil.data.shards.files import LocalFiles, Shard, ShardFiles, TimeLimit
from diffmavil.data.shards.index import ShardIndex
from diffmavil.data.shards.jpeg import decode
from diffmavil.data.shards.layout import (
    INDEX_FOLDER,
    SETTINGS_FILE,
    Extent,
    Stored,
    clip_key,
    extents,
    shard_name,
)
from diffmavil.data.shards.remote import CachedFiles, Remote, RemoteFiles, cache_folder, fetch_index

_ROUNDING_S = 1e-3


class ShardSource(ClipSource):
    """The clips of a folder that ``diffmavil prepare`` wrote, on this machine or far away.

    A clip's path and segment are those of the file that it was made from, so that what is held out and the names of
    clips are the same as from the files.

    Args:
        root: The folder, or the URL of a copy of it that fsspec reaches: ``s3://bucket/shards``, ``http://...``.
        cache_dir: Folder of this machine for what is fetched: the index, and shards. By default one of this user's in
            the system's folder for temporary files.
        cache_gb: Gigabytes of whole shards to keep there, of which the latest; 0: none, only the pictures and the sound
            that are wanted are fetched, each time. To be worth it, give room for twice ``data.shuffle_shards``.
        storage_options: For fsspec, such as ``{anon: true}``.
        fold: The fold to test on, the others being for training; ``None``: the splits are as they were prepared.

    Raises:
        ValueError: If ``cache_gb`` is below 0; when the index is read, if it is less than two shards.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        cache_dir: str | Path | None = None,
        cache_gb: float = 0.0,
        storage_options: dict[str, Any] | None = None,
        fold: int | None = None,
    ) -> None:
        check_number("cache_gb", cache_gb, at_least=0, limit=1e6)
        check_number("fold", fold, at_least=0, limit=1_000_000, optional=True)
        self.root = str(root)
        self.fold = fold
        self._cache_gb = cache_gb
        self._index: ShardIndex | None = None
        self._remote: Remote | None = None
        self._files: ShardFiles
        if "://" in self.root:
            self._remote = Remote(self.root, storage_options or {})
            self._cache = cache_folder(self._remote.url, None if cache_dir is None else Path(cache_dir))
            cached = cache_gb > 0
            self._files = (
                CachedFiles(self._remote, self._cache, cache_gb * 1e9) if cached else RemoteFiles(self._remote)
            )
        else:
            self._files = LocalFiles(Path(self.root))

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_index": None}  # mapped anew by each process

    @property
    def index(self) -> ShardIndex:
        """Where the clips are.

        Raises:
            ValueError: If the folder has no index that can be read.
        """
        if self._index is None:
            self._index = self._read_index() if self._remote is None else self._fetched_index(self._remote)
        return self._index

    @property
    def stored(self) -> Stored:
        """How sound and pictures are stored.

        Raises:
            ValueError: If the folder has no index that can be read.
        """
        return Stored(**self.index.settings["stored"])

    def _read_index(self) -> ShardIndex:
        if not any(Path(self.root, name).exists() for name in (SETTINGS_FILE, INDEX_FOLDER)):
            raise ValueError(f"root must be a folder that `diffmavil prepare` wrote, got {self.root}")
        return ShardIndex(Path(self.root) / INDEX_FOLDER)

    def _fetched_index(self, remote: Remote) -> ShardIndex:
        try:
            try:
                index = ShardIndex(fetch_index(remote, self._cache))
            except ValueError:  # the copy may be damaged
                index = ShardIndex(fetch_index(remote, self._cache, anew=True))
        except (OSError, ImportError, ValueError) as error:
            raise ValueError(
                f"root must hold an index of shards that can be read, got {self.root} ({error})"
            ) from error
        if 0 < self._cache_gb * 1e9 < (least := sum(sorted(index.shard_bytes)[-2:])):
            rule = f"must be 0 or at least the two largest shards, {least / 1e9:.2g}"
            raise ValueError(f"cache_gb {rule}, lest each be fetched again and again, got {self._cache_gb:g}")
        return index

    def clips(self) -> Iterator[Clip]:
        """List the clips, in the order of the source that they were made from.

        Raises:
            ValueError: If the folder has no index that can be read, or if no clip is of the wanted fold.
        """
        if self.fold is None:
            return self.index.clips()
        folds = sorted(set(self.index.rows["fold"].tolist()) - {NO_NUMBER})
        if self.fold not in folds:
            raise ValueError(f"fold must be one of {', '.join(map(str, folds)) or 'none'}, got {self.fold}")
        return (replace(clip, split="test" if clip.fold == self.fold else "train") for clip in self.index.clips())

    def class_names(self) -> list[str] | None:
        """Names of all classes of the source that the shards were made from; ``None`` where it had no labels."""
        return self.index.classes or None

    def open(self, clip: Clip, *, timeout_s: float = TIMEOUT_S) -> Media:
        """Open a clip; its bytes are read when they are asked for.

        Args:
            clip: The clip.
            timeout_s: Seconds for all that is fetched of it from far away; of a whole shard that is fetched to be kept,
                for each 16 MiB.

        Raises:
            ValueError: If the clip is not one of these shards, or if ``timeout_s`` is not positive.
        """
        if clip.row is None:
            raise ValueError(f"row must be that of a clip of these shards, got None for {clip.path}")
        return ShardMedia(self.index, self._files, clip.row, self.root, TimeLimit(timeout_s))


class ShardMedia(Media):
    """One clip of a shard; times are those of the file that it was made from, of which it holds a segment.

    Args:
        index: Where the clips are.
        files: Reads the shards.
        row: Number of the clip.
        root: The shards' folder, for messages.
        limit: For waiting for bytes from far away.

    Raises:
        IndexError: If there is no clip of that number.
    """

    cut_short_s = None  # diffmavil prepare has checked it, by a rule of its user's choice

    def __init__(self, index: ShardIndex, files: ShardFiles, row: int, root: str, limit: TimeLimit) -> None:
        self._index, self._files, self._row, self._limit = index, files, index.rows[row], limit
        number, start_s = int(self._row["shard"]), float(self._row["start_s"])
        self._shard = Shard(shard_name(number), index.shard_bytes[number])
        self._start_s = 0.0 if isnan(start_s) else start_s
        self.path = f"{root}/{self._shard.name}/{clip_key(int(self._row['position']), index.path(self._row))}"
        self.max_fps = index.settings["stored"]["fps"]
        self.info = MediaInfo(float(self._row["duration_s"]), _span(self._row["audio_s"]), _span(self._row["video_s"]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the shards stay open for other clips."""

    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        """Decode a window of the sound.

        Args:
            start_s: Start of the window.
            duration_s: Its length.
            sample_rate_hz: The rate at which it is stored.

        Returns:
            The whole window, or less where the sound ends in it.

        Raises:
            ValueError: If it is stored at another rate.
            MediaError: If there is no sound, or if it is damaged.
        """
        if self.info.audio_s is None:
            raise MediaError(self.path, NO_AUDIO)
        stored_hz = self._index.settings["stored"]["sample_rate_hz"]
        if sample_rate_hz != stored_hz:
            raise ValueError(f"sample_rate_hz must be that of the shards, {stored_hz}, got {sample_rate_hz}")
        (data,) = self._read(self._members[1:2])
        if zlib.crc32(data) != self._row["flac_crc"]:
            raise MediaError(self.path, CANNOT_DECODE, "the sound is damaged")
        if bytes(data[:4]) != b"fLaC":  # the library reads far more than is ever stored
            raise MediaError(self.path, CANNOT_DECODE, "the sound is no FLAC")
        first = round(start_s * sample_rate_hz) - round(self._start_s * sample_rate_hz)
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                if (file.samplerate, file.channels) != (stored_hz, 1):
                    form = f"{file.channels} x {file.samplerate} Hz, not 1 x {stored_hz} Hz"
                    raise MediaError(self.path, CANNOT_DECODE, form)
                begin = min(max(first, 0), file.frames)
                file.seek(begin)
                count = min(round(duration_s * sample_rate_hz), file.frames - begin)
                samples: npt.NDArray[np.int16] = file.read(count, dtype="int16")
        except soundfile.SoundFileError as error:
            raise MediaError(self.path, CANNOT_DECODE, str(error)) from error
        if len(samples) < count:
            raise MediaError(self.path, CANNOT_DECODE, f"the sound breaks off after {len(samples)} samples")
        return samples

    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
        """Decode the stored pictures that are shown at some instants.

        Args:
            times_s: The instants, in ascending order, at least one.
            short_side: Pixels to which the shorter side of larger pictures is brought; ``None``: all as they are.

        Yields:
            RGB pictures, of one shape (H, W, 3): at each instant the last stored one that began before or at it.

        Raises:
            MediaError: If there are no pictures, or if they are damaged.
        """
        if self.info.video_s is None:
            raise MediaError(self.path, NO_VIDEO)
        fps, last = self._index.settings["stored"]["fps"], int(self._row["num_frames"]) - 1
        wanted = [min(max(int((time_s - self._start_s + _ROUNDING_S) * fps), 0), last) for time_s in times_s]
        places, crcs = self._members[-last - 1 :], self._pictures["crc32"]
        counts = Counter(wanted)
        for k, jpeg in zip(counts, self._read([places[k] for k in counts]), strict=True):
            if zlib.crc32(jpeg) != crcs[k]:
                raise MediaError(self.path, CANNOT_DECODE, f"picture {k} is damaged")
            try:
                picture = _shrink(decode(jpeg), short_side).permute(1, 2, 0).numpy()
            except ValueError as error:
                raise MediaError(self.path, CANNOT_DECODE, f"picture {k}: {error}") from error
            yield from repeat(picture, counts[k])

    @cached_property
    def _pictures(self) -> npt.NDArray[Any]:
        """Size and checksum of each picture."""
        return self._index.frames[int(self._row["first_frame"]) :][: int(self._row["num_frames"])]

    @cached_property
    def _members(self) -> list[Extent]:
        """Where the clip's .json, .flac (if it has sound) and .jpg files are."""
        row = self._row
        sound = [int(row["flac_size"])] if row["flac_size"] else []
        return extents(int(row["offset"]), [int(row["json_size"]), *sound, *self._pictures["size"].tolist()])

    def _read(self, places: list[Extent]) -> Iterator[bytearray | memoryview]:
        """The bytes of some members, each as it is taken."""
        try:
            for place, data in zip(places, self._files.read_each(self._shard, places, self._limit), strict=True):
                if len(data) < place.size:
                    raise MediaError(self.path, CANNOT_DECODE, "shard cut short")
                yield data
        except FileNotFoundError as error:
            raise MediaError(self.path, MISSING_FILE) from error
        except TimeoutError as error:
            raise MediaError(self.path, TIMED_OUT, error.strerror or "") from error
        except OSError as error:
            raise MediaError(self.path, CANNOT_OPEN, error.strerror or str(error)) from error


def _span(values: npt.NDArray[np.float64]) -> Span | None:
    start_s, end_s = values.tolist()
    return None if isnan(start_s) else (start_s, end_s)


def _shrink(picture: torch.Tensor, short_side: int | None) -> torch.Tensor:
    """Bring the shorter side of a larger picture, of shape (3, H, W), to a number of pixels."""
    if short_side is None or min(picture.shape[1:]) <= short_side:
        return picture
    small: torch.Tensor = F.resize(picture, [short_side], antialias=True)
    return small
