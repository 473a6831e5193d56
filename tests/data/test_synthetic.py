"""The made data set: same bytes, real files, sound and picture in step, and causes that can be seen.

The oracles look and listen: they find bounces, beams and lamps in the pictures, onsets and pitches in sound.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchaudio.compliance import kaldi

from diffmavil.commands.synth import synth
from diffmavil.data.synthetic import KINDS, ClipFormat, label_of, make_clip, split_of, write_mp4
from diffmavil.data.synthetic.canvas import Canvas
from diffmavil.data.synthetic.stage import Event, Stage

FPS, RATE_HZ = 32, 16000


def perform(kind: str, seed: int, clip_s: float, size_px: int) -> tuple[Event, Canvas]:
    """An event alone, white on black."""
    canvas = Canvas(background=np.zeros((3, size_px, size_px), np.float32), num_frames=round(clip_s * FPS))
    white = (1.0, 1.0, 1.0)
    stage = Stage(
        rng=np.random.default_rng(seed),
        canvas=canvas,
        inks=(white, white, white),
        light=white,
        frame_s=np.arange(round(clip_s * FPS)) / FPS,
        sample_s=np.arange(round(clip_s * RATE_HZ)) / RATE_HZ,
        sample_rate_hz=RATE_HZ,
    )
    return KINDS[kind](stage), canvas


def play(kind: str, seed: int) -> tuple[Event, npt.NDArray[np.float64]]:
    """Three seconds of an event, and how much light each pixel shows, (T, H, W)."""
    event, canvas = perform(kind, seed, clip_s=3.0, size_px=96)
    return event, canvas.frames().mean(-1) / 255.0


def moving(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each frame shows that most frames do not."""
    return np.abs(light - np.median(light, axis=0))


def loudness(sound: npt.NDArray[np.float64], hop: int) -> npt.NDArray[np.float64]:
    """Root mean square of consecutive pieces of sound."""
    return np.sqrt(np.mean(sound[: sound.size // hop * hop].reshape(-1, hop) ** 2, axis=1))


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_same_seed_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    for name, seed, workers in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        synth(out=tmp_path / name, clips=12, seed=seed, clip_s=1.0, size_px=48, workers=workers)
    one, two, other = (hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) == 13
    assert one == two
    assert not set(one.values()) & set(other.values())


def test_a_clip_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    for name, clips in (("few", 2), ("more", 4)):
        synth(out=tmp_path / name, clips=clips, seed=0, clip_s=1.0, size_px=48, workers=1)
    few, more = hashes(tmp_path / "few"), hashes(tmp_path / "more")
    assert all(more[path] == digest for path, digest in few.items() if path != "manifest.csv")


def test_a_manifest_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("mine")
    with pytest.raises(
        ValueError, match="out must be a folder without a manifest.csv, which would be written over, got"
    ):
        synth(out=tmp_path, clips=2, clip_s=1.0, size_px=32, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_manifest_lists_balanced_kinds_and_splits(tmp_path: Path) -> None:
    synth(out=tmp_path, clips=20, seed=0, clip_s=1.0, size_px=32, workers=1)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert all((tmp_path / row["path"]).is_file() for row in rows)
    assert Counter((row["label"], row["split"]) for row in rows) == Counter(
        (kind, split) for kind in KINDS for split in ("train", "test")
    )
    assert all(0.0 <= float(onset) < 1.0 for row in rows for onset in row["onsets_s"].split(";") if onset)


def test_three_quarters_of_each_kind_are_for_training() -> None:
    counts = Counter((label_of(index), split_of(index)) for index in range(1000))
    assert len(KINDS) == 10
    assert {counts[kind, "train"] for kind in KINDS} == {75}
    assert {counts[kind, "test"] for kind in KINDS} == {25}


def test_file_holds_the_pictures_and_the_sound_from_the_same_moment_on(tmp_path: Path) -> None:
    clip_format = ClipFormat(clip_s=2.0, size_px=64, fps=16, sample_rate_hz=16000)
    clip = make_clip(0, 1, clip_format)
    path = tmp_path / "clip.mp4"
    write_mp4(path, frames=clip.frames, fps=16, waveform=clip.waveform, sample_rate_hz=16000)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].rate == 16000
        pictures = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        pieces = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    assert [time for time, _ in pictures] == [number / 16 for number in range(32)]
    assert np.abs(np.stack([picture for _, picture in pictures]) - clip.frames.astype(float)).mean() < 5.0
    assert pieces[0][0] == 0.0
    heard = np.concatenate([piece for _, piece in pieces])[: clip.waveform.size]
    spectra = np.fft.rfft(heard, 2**16) * np.conj(np.fft.rfft(clip.waveform / 32768.0, 2**16))
    assert np.argmax(np.fft.irfft(spectra)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_seen_and_heard(kind: str) -> None:
    index = list(KINDS).index(kind)
    clip = make_clip(5, index, ClipFormat(clip_s=2.0, size_px=64, fps=16, sample_rate_hz=16000))
    assert clip.label == kind
    assert clip.frames.shape == (32, 64, 64, 3)
    assert clip.waveform.shape == (32000,)
    assert np.ptp(clip.frames.astype(int), axis=0).max() > 60
    assert 100 < np.abs(clip.waveform.astype(int)).max() < 32767


@pytest.mark.parametrize("kind", KINDS)
def test_clips_of_any_allowed_length_are_heard_to_their_end(kind: str) -> None:
    """One second is the shortest, a minute the longest."""
    for seed in range(20):
        event, _ = perform(kind, seed, clip_s=1.0, size_px=16)
        assert np.abs(event.sound).max() > 1e-3
    event, _ = perform(kind, 0, clip_s=60.0, size_px=16)
    assert loudness(event.sound, RATE_HZ * 5).min() > 1e-3, "in every five seconds"


@pytest.mark.slow
def test_the_average_spectrum_does_not_give_the_kind_away() -> None:
    """Nor the average picture: what is to be learned is more than one frequency or one pixel."""
    heard, seen, labels, splits = [], [], [], []
    for index in range(300):
        clip = make_clip(0, index, ClipFormat(clip_s=3.0, size_px=32, fps=8, sample_rate_hz=RATE_HZ))
        waveform = torch.from_numpy(clip.waveform)[None] / 32768.0
        bins = kaldi.fbank(waveform, sample_frequency=RATE_HZ, num_mel_bins=64, htk_compat=True, window_type="hanning")
        heard.append(torch.cat([bins.mean(0), bins.std(0)]).numpy())
        pictures = clip.frames.astype(np.float32)
        seen.append(np.concatenate([pictures.mean((0, 1, 2)), pictures.std(0).mean((0, 1))]))
        labels.append(label_of(index))
        splits.append(split_of(index))
    train, test = np.array(splits) == "train", np.array(splits) == "test"
    kinds = np.array(labels)
    for features in (np.stack(heard), np.stack(seen)):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(features[train], kinds[train])
        assert 0.15 < model.score(features[test], kinds[test]) < 0.85, "chance is 0.1"


@pytest.mark.parametrize("seed", range(4))
def test_ball_is_heard_when_it_is_lowest(seed: int) -> None:
    event, light = play("bouncing_ball", seed)
    seen = moving(light).max(axis=2) > 0.3
    lowest = np.array([np.flatnonzero(rows).max() if rows.any() else 0 for rows in seen])
    blocks = loudness(event.sound, 80)
    jumps = np.flatnonzero((blocks[1:] > 3.0 * blocks[:-1]) & (blocks[1:] > 0.2 * blocks.max())) + 1
    assert jumps.size >= 2
    floor = lowest.max()
    for jump in jumps:
        frame = round(jump * 80 / RATE_HZ * FPS)
        assert lowest[max(frame - 1, 0) : frame + 2].max() >= floor - 5


@pytest.mark.parametrize("seed", range(3))
def test_siren_is_high_when_its_beam_is_up(seed: int) -> None:
    event, light = play("siren", seed)
    beam = moving(light)
    height = -(beam * np.arange(96)[:, None]).sum((1, 2)) / beam.sum((1, 2))
    pieces = event.sound.reshape(-1, RATE_HZ // FPS) * np.hanning(RATE_HZ // FPS)
    power = np.abs(np.fft.rfft(pieces, 4096)) ** 2
    frequency = np.argmax(power, axis=1)
    assert np.corrcoef(height, frequency)[0, 1] > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_lighthouse_sounds_while_it_shines(seed: int) -> None:
    event, light = play("lighthouse", seed)
    assert np.corrcoef(light.mean((1, 2)), loudness(event.sound, RATE_HZ // FPS))[0, 1] > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_wind_is_loud_when_the_grass_leans(seed: int) -> None:
    event, light = play("wind", seed)
    upper = light[:, :30]
    lean = (upper * np.arange(96)).sum((1, 2)) / upper.sum((1, 2))
    assert np.corrcoef(lean, loudness(event.sound, RATE_HZ // FPS))[0, 1] > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_rain_is_heard_when_drops_reach_the_ground(seed: int) -> None:
    event, light = play("rain", seed)
    splashes = light[:, 85:88].sum((1, 2))
    landing = np.maximum(np.diff(splashes, prepend=splashes[:1]), 0.0)
    onsets = np.histogram(event.onsets_s, bins=np.arange(len(landing) + 1) / FPS)[0].astype(float)
    likeness = [np.corrcoef(np.roll(landing, -lag)[8:-8], onsets[8:-8])[0, 1] for lag in range(-8, 9)]
    assert max(likeness) > 0.3
    assert np.argmax(likeness) - 8 in (0, 1)  # the first frame after the drop has landed


@pytest.mark.parametrize("seed", range(3))
def test_a_string_half_as_long_sounds_an_octave_higher(seed: int) -> None:
    event, light = play("string", seed)
    hertz, free = [], []
    for onset, after in zip(event.onsets_s, [*event.onsets_s[1:], 3.0], strict=True):
        piece = event.sound[round((onset + 0.02) * RATE_HZ) : round((min(after, onset + 0.3) - 0.02) * RATE_HZ)]
        power = np.abs(np.fft.rfft(piece * np.hanning(piece.size), 2**15)) ** 2
        lowest = int(np.argmax(power > 0.03 * power.max()))
        hertz.append((lowest + np.argmax(power[lowest : lowest + 60])) * RATE_HZ / 2**15)
        finger = np.flatnonzero(light[min(round((onset + 0.03) * FPS), len(light) - 1), 18] > 0.5)
        free.append(93.6 - finger.mean())
    assert np.ptp(free) > 10
    assert np.allclose(np.multiply(hertz, free) / np.median(np.multiply(hertz, free)), 1.0, atol=0.15)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clips": 0}, "clips must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"size_px": 33}, "size_px must be even and in [32, 1024], got 33"),
        ({"clip_s": 0.5}, "clip_s must be in [1, 60], got 0.5"),
        ({"fps": 2}, "fps must be in [4, 60], got 2"),
        ({"sample_rate_hz": 12345}, "sample_rate_hz must be a rate of AAC from 8000 to 48000, got 12345"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        synth(out=tmp_path / "made", **values)  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert not (tmp_path / "made").exists()
