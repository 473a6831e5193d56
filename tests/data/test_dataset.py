"""Windows, padding, and what takes the place of a broken clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from media import counter_frame, counter_of, tone, write_clip, write_media

from diffmavil.data import Clip
from diffmavil.data.batch_memory import Pools
from diffmavil.data.clip_table import ClipTable
from diffmavil.data.dataset import ClipDataset, Request, Sample
from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import MediaError
from diffmavil.data.media import Media, MediaInfo
from diffmavil.data.transforms import AudioTransform, Crop, centre_crop, random_crop
from diffmavil.types import Modalities, RawBatch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 6 s: its pictures count tenths of a second, its sound grows louder with the time."""
    folder = tmp_path_factory.mktemp("dataset")
    sound = tone(6.0, 500.0, amplitude=1.0) * np.linspace(0, 0.96, 96000, dtype=np.float32)
    frames = [counter_frame(k) for k in range(60)]
    write_media(folder / "ramp.mp4", frames=frames, sound=sound)
    write_clip(folder / "short.mp4", seconds=1.0)
    write_media(folder / "silent.mp4", frames=frames[:10])
    (folder / "empty.mp4").touch()
    return folder


def dataset(
    clips: Sequence[Clip],
    *,
    training: bool = False,
    modalities: Modalities = "audio_video",
    clip_s: float = 2.0,
    num_frames: int = 5,
    fps: float = 5.0,
    seed: int = 0,
    plain: bool = True,
    windows: int = 1,
    classes: list[str] | None = None,
    num_indicators: int | None = None,
) -> ClipDataset:
    audio = AudioTransform(
        clip_s=clip_s, sample_rate_hz=16000, num_mel_bins=32, frame_shift_ms=10.0, mean=-4.0, std=4.5
    )
    return ClipDataset(
        clips=ClipTable(clips, classes),
        open=lambda clip: MediaFile(clip.path),
        indices=np.arange(len(clips)),
        modalities=modalities,
        training=training,
        seed=seed,
        audio=audio,
        num_frames=num_frames,
        fps=fps,
        short_side=32,
        crop=centre_crop if plain else partial(random_crop, min_scale=0.3, flip=True),
        windows=windows,
        num_indicators=num_indicators,
    )


def window(data: ClipDataset, index: int, key: Request) -> Sample:
    """The one window that there is."""
    (sample,) = windows_of(data, index, key)
    return sample


def windows_of(data: ClipDataset, index: int, key: Request) -> list[Sample]:
    return data.read(index, key, Pools(shared=False).begin(1))


def batch_of(data: ClipDataset, requests: list[Request]) -> RawBatch:
    batch = data.collate(data.__getitems__(requests))
    assert isinstance(batch, RawBatch)
    return batch


def heard_s(sample: Sample) -> float:
    """Where in the ramp the window begins, from its loudness."""
    assert sample.waveform is not None
    loudness = float(np.sqrt(np.square(sample.waveform[:1600].astype(float)).mean())) / 32768 * 2**0.5
    return loudness / 0.96 * 6.0 - 0.05


def seen(sample: Sample) -> list[int]:
    assert sample.frames is not None
    return [counter_of(picture) for picture in sample.frames]


def test_evaluation_reads_the_centre(folder: Path) -> None:
    sample = window(dataset([Clip(str(folder / "ramp.mp4"))]), 0, Request(0, 0))
    assert heard_s(sample) == pytest.approx(2.0, abs=0.05)  # 2 of 6 seconds
    assert seen(sample) == [25, 27, 29, 31, 33]  # 1 of these 2 seconds
    assert sample.waveform is not None and sample.frames is not None
    assert sample.waveform.dtype == np.int16 and len(sample.waveform) == sample.num_samples == 2 * 16000 + 240
    assert sample.frames.dtype == np.uint8 and sample.frames.shape == (5, 32, 32, 3) and sample.num_frames == 5


def test_training_reads_anywhere_and_the_pictures_lie_inside_the_sound(folder: Path) -> None:
    data = dataset([Clip(str(folder / "ramp.mp4"))], training=True)
    samples = [window(data, 0, Request(epoch, 0)) for epoch in range(16)]
    starts = [heard_s(sample) for sample in samples]
    assert min(starts) < 1.0 and max(starts) > 3.0 and min(starts) > -0.1 and max(starts) < 4.1
    for start_s, sample in zip(starts, samples, strict=True):
        first = seen(sample)[0] / 10
        assert start_s - 0.15 < first < start_s + 1.0 + 0.05
        assert seen(sample) == [seen(sample)[0] + 2 * k for k in range(5)]
    assert len({round(seen(sample)[0] / 10 - start, 1) for start, sample in zip(starts, samples, strict=True)}) > 3


def test_random_choices_follow_from_seed_epoch_and_index(folder: Path) -> None:
    clips = [Clip(str(folder / "ramp.mp4"))] * 2

    def same(first: Sample, second: Sample) -> bool:
        assert first.waveform is not None and second.waveform is not None
        assert first.frames is not None and second.frames is not None
        return np.array_equal(first.waveform, second.waveform) and np.array_equal(first.frames, second.frames)

    data = dataset(clips, training=True, plain=False)
    first = window(data, 0, Request(3, 0))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert same(first, window(dataset(clips, training=True, plain=False), 0, Request(3, 0)))
    assert torch.equal(state, torch.get_rng_state())  # the global generator is left as it was
    for other in (
        window(data, 0, Request(4, 0)),
        window(data, 1, Request(3, 1)),
        window(dataset(clips, training=True, seed=1), 0, Request(3, 0)),
    ):
        assert not same(first, other)


def test_segments_stay_within_their_bounds(folder: Path) -> None:
    clips = [Clip(str(folder / "ramp.mp4"), start_s=3.0, end_s=4.0)]
    for training in (False, True):
        sample = window(dataset(clips, training=training, clip_s=0.5, num_frames=2, fps=5.0), 0, Request(0, 0))
        assert 2.95 < heard_s(sample) < 3.55
        assert all(30 <= number < 40 for number in seen(sample))
    sample = window(dataset(clips, clip_s=2.0), 0, Request(0, 0))  # shorter than the window: read whole
    assert heard_s(sample) == pytest.approx(3.0, abs=0.05)
    assert seen(sample) == [30, 32, 34, 36, 38]
    assert sample.num_samples == 16000 and sample.num_frames == 5
    assert sample.waveform is not None and not sample.waveform[16000:].any()


def test_short_clips_are_padded_at_their_end(folder: Path) -> None:
    clips = [Clip(str(folder / "short.mp4"))]
    for training in (False, True):
        sample = window(dataset(clips, training=training, clip_s=3.0, num_frames=10, fps=5.0), 0, Request(0, 0))
        assert sample.waveform is not None and sample.waveform.shape == (48240,)
        assert sample.num_samples == 16000 and not sample.waveform[16000:].any()
        assert sample.num_frames == 5 and seen(sample) == [0, 2, 4, 6, 8, 8, 8, 8, 8, 8]


def test_window_as_long_as_the_clip_is_not_padded(folder: Path) -> None:
    sample = window(dataset([Clip(str(folder / "short.mp4"))], clip_s=1.0), 0, Request(0, 0))
    assert sample.waveform is not None and sample.num_samples == len(sample.waveform) == 16240


def test_word_of_a_few_hundredths_of_a_second(folder: Path) -> None:
    sample = window(dataset([Clip(str(folder / "ramp.mp4"), 3.01, 3.03)]), 0, Request(0, 0))
    assert sample.num_samples == 320 and sample.num_frames == 1 and set(seen(sample)) == {30}


def test_one_modality_needs_no_other(folder: Path) -> None:
    silent = [Clip(str(folder / "silent.mp4"))]
    sample = window(dataset(silent, modalities="video"), 0, Request(0, 0))
    assert sample.waveform is None and sample.frames is not None
    with pytest.raises(MediaError, match="no audio track"):
        window(dataset(silent), 0, Request(0, 0))
    sample = window(dataset([Clip(str(folder / "ramp.mp4"))], modalities="audio"), 0, Request(0, 0))
    assert sample.frames is None and sample.waveform is not None


def test_clip_beyond_the_end_of_its_file(folder: Path) -> None:
    with pytest.raises(MediaError, match=r"too short \(the clip begins at 7.00 s, the file ends at 6.00 s\)"):
        window(dataset([Clip(str(folder / "ramp.mp4"), start_s=7.0)]), 0, Request(0, 0))


@pytest.mark.parametrize("modalities", ["audio_video", "audio", "video"])
@pytest.mark.parametrize(("end_s", "is_cut"), [(6.4, False), (6.6, True), (11.0, True)])
def test_a_segment_of_which_a_file_has_a_part_only_is_too_short(
    folder: Path, end_s: float, is_cut: bool, modalities: Modalities
) -> None:
    data = dataset([Clip(str(folder / "ramp.mp4"), start_s=1.0, end_s=end_s)], modalities=modalities)
    batch = batch_of(data, [Request(0, 0)])
    reasons = [(skip.reason, skip.detail) for skip in batch.skips]
    detail = f"the file has 5.00 s of the segment's {end_s - 1.0:.2f} s"
    assert reasons == ([("too short", detail)] if is_cut else []) and len(batch.index) == (not is_cut)


def test_a_prepared_segment_follows_the_rule_by_which_it_was_prepared(folder: Path) -> None:
    data = dataset([Clip("good", start_s=0.0, end_s=5.0)], clip_s=0.5, num_frames=3, fps=6.0)
    data.open = lambda clip: Drawn([32] * 3)
    assert [skip.reason for skip in batch_of(data, [Request(0, 0)]).skips] == ["too short"]
    prepared = Drawn([32] * 3)
    prepared.cut_short_s = None
    data.open = lambda clip: prepared
    assert len(batch_of(data, [Request(0, 0)]).index) == 1


def test_evaluation_leaves_broken_clips_out(folder: Path) -> None:
    data = dataset([Clip(str(folder / name)) for name in ("ramp.mp4", "empty.mp4", "silent.mp4", "short.mp4")])
    batch = batch_of(data, [Request(0, k) for k in range(4)])
    assert batch.index.tolist() == [0, 3]
    assert [(skip.index, skip.reason) for skip in batch.skips] == [(1, "empty file"), (2, "no audio track")]
    assert batch.waveform is not None and len(batch.waveform) == 2
    assert batch.frames is not None and batch.frame_sizes == [(32, 32)] * 2
    assert len(batch.frames) == 2 * 5 * 32 * 32 * 3


def test_nothing_but_broken_clips_is_an_empty_batch(folder: Path) -> None:
    for training in (False, True):
        data = dataset([Clip(str(folder / "empty.mp4"))] * 2, training=training)
        batch = batch_of(data, [Request(0, 0), Request(0, 1)])
        assert len(batch.index) == 0 and len(batch.skips) >= 2
        assert batch.waveform is not None and batch.waveform.shape == (0, data.audio.num_samples)
        assert batch.frames is not None and len(batch.frames) == 0 and batch.frame_sizes == []
    assert len(batch_of(data, []).index) == 0


class Drawn(Media):
    """Half a second of sound, and pictures of which some may be missing, too many, or of another size."""

    path = "drawn"
    info = MediaInfo(0.5, (0.0, 0.5), (0.0, 0.5))

    def __init__(self, sizes: list[int] | Exception) -> None:
        self.sizes = sizes

    def __exit__(self, *error: object) -> None:
        pass

    def audio(self, start_s: float, duration_s: float, sample_rate_hz: int) -> npt.NDArray[np.int16]:
        return np.full(8000, 7, np.int16)

    def frames(self, times_s: Sequence[float], short_side: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
        if isinstance(self.sizes, Exception):
            yield from (np.full((32, 32, 3), k, np.uint8) for k in range(2))
            raise self.sizes
        yield from (np.full((32, width, 3), k, np.uint8) for k, width in enumerate(self.sizes, 1))


@pytest.mark.parametrize(
    "bad", [[], [32], [32] * 2, [32] * 4, [32, 32, 40], OSError("gone"), MediaError("drawn", "timed out")], ids=str
)
@pytest.mark.parametrize("windows", [1, 3])
def test_what_was_read_of_a_clip_that_fails_is_not_in_the_batch(bad: list[int] | Exception, windows: int) -> None:
    clips = [Clip(name) for name in ("good", "bad", "good", "bad", "bad", "good")]
    data = dataset(clips, clip_s=0.5, num_frames=3, fps=6.0, windows=windows)
    data.open = lambda clip: Drawn([32] * 3 if clip.path == "good" else bad)
    batch = batch_of(data, [Request(0, k) for k in range(6)])
    assert batch.index.tolist() == [0, 2, 5] and [skip.index for skip in batch.skips] == [1, 3, 4]
    assert batch.waveform is not None and batch.frames is not None and batch.frame_sizes == [(32, 32)] * 3
    assert (batch.waveform[:, :8000] == 7).all() and (batch.waveform[:, 8000:] == 0).all() and len(batch.waveform) == 3
    shown = batch.frames.view(3, 3, 32, 32, 3)
    assert all((shown[:, k] == k + 1).all() for k in range(3))


def test_training_puts_another_clip_in_place_of_a_broken_one(folder: Path) -> None:
    clips = [Clip(str(folder / "empty.mp4"))] * 3 + [Clip(str(folder / "short.mp4"))] * 6
    data = dataset(clips, training=True, clip_s=0.5, num_frames=2)
    taken = set()
    for epoch in range(12):
        batch = batch_of(data, [Request(epoch, k) for k in range(4)])
        assert len(batch.index) == 4 and batch.index[3] == 3
        assert {skip.index for skip in batch.skips} == {0, 1, 2}
        again = batch_of(data, [Request(epoch, k) for k in range(4)])
        assert torch.equal(batch.index, again.index)
        taken |= set(batch.index[:3].tolist())
    assert len(taken) == 6


def test_pictures_of_different_sizes_go_together(folder: Path) -> None:
    write_clip(folder / "wide.mp4", size=(160, 48))
    write_clip(folder / "tall.mp4", size=(36, 90))
    clips = [Clip(str(folder / name)) for name in ("wide.mp4", "tall.mp4", "short.mp4")]
    data = dataset(clips, plain=False, training=True)
    data.crop = lambda height, width: Crop(top=0, left=1, height=height, width=width - 1, flipped=width < height)
    batch = batch_of(data, [Request(0, k) for k in range(3)])
    assert batch.frames is not None and batch.flipped is not None and batch.flipped.tolist() == [False, True, False]
    assert batch.frame_sizes is not None and batch.frame_sizes[:2] == [(32, 106), (80, 31)], "32 on the shorter side"
    assert len(batch.frames) == sum(5 * height * width * 3 for height, width in batch.frame_sizes)


def test_long_clips_are_read_in_windows_spread_evenly(folder: Path) -> None:
    clips = [Clip(str(folder / name)) for name in ("ramp.mp4", "short.mp4")]
    for windows, expected in ((2, [0.0, 4.0]), (3, [0.0, 2.0, 4.0]), (9, [0.0, 2.0, 4.0])):
        samples = windows_of(dataset(clips, windows=windows), 0, Request(0, 0))
        assert [heard_s(sample) for sample in samples] == pytest.approx(expected, abs=0.06)
        assert [seen(sample)[0] / 10 for sample in samples] == pytest.approx([start + 0.5 for start in expected])
    data = dataset(clips, windows=9)
    batch = batch_of(data, [Request(0, 1), Request(0, 0)])
    assert batch.index.tolist() == [1, 0, 0, 0], "a short clip has one window"
    assert len(windows_of(dataset(clips, windows=9, training=True), 0, Request(0, 0))) == 1


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(1.9, 1), (2.0, 1), (2.04, 1), (2.09, 1), (2.11, 2), (2.2, 2), (4.0, 2), (4.08, 2), (4.12, 3), (6.0, 3)],
)
def test_what_is_left_over_has_a_window_from_a_twentieth_of_one_on(folder: Path, seconds: float, count: int) -> None:
    clip = Clip(str(folder / "ramp.mp4"), end_s=seconds)
    samples = windows_of(dataset([clip], windows=4, modalities="audio"), 0, Request(0, 0))
    expected = np.linspace(0, seconds - 2.0, count) if count > 1 else [max(0.0, seconds / 2 - 1.0)]
    assert [heard_s(sample) for sample in samples] == pytest.approx(list(expected), abs=0.06)


def test_labels(folder: Path) -> None:
    clips = [Clip(str(folder / "short.mp4"), labels=(label,)) for label in "bac"]
    data = dataset(clips)
    batch = batch_of(data, [Request(0, k) for k in range(3)])
    assert batch.labels is not None and batch.labels.dtype == torch.long and batch.labels.tolist() == [1, 0, 2]
    clips = [Clip(str(folder / "short.mp4"), labels=labels) for labels in (("b", "d"), (), ("a",))]
    data = dataset(clips, classes=["a", "b", "c", "d"], num_indicators=4)
    labels = batch_of(data, [Request(0, k) for k in range(3)]).labels
    assert labels is not None and labels.dtype == torch.float32
    assert labels.tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
