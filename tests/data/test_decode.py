"""Decoding: the right instants, the right gain, and the right reason for everything that is broken."""

from __future__ import annotations

import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from media import (
    counter_frame,
    counter_of,
    decode_audio,
    decode_frames,
    frames_of,
    probe,
    tone,
    write_clip,
    write_media,
)

from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import REASONS, MediaError

COUNTER = [counter_frame(k) for k in range(60)]
FASTSTART = {"movflags": "faststart"}


def noise(seconds: float, rate: int, channels: int = 1) -> npt.NDArray[np.float32]:
    """Low-passed noise: at one place only does it correlate with itself."""
    samples = np.random.default_rng(0).standard_normal((channels, round(seconds * rate)))
    return np.stack([np.convolve(row, np.full(40, 1 / 120), "same") for row in samples]).astype(np.float32)


def lag(samples: npt.NDArray[np.int16], reference: npt.NDArray[np.float32], begin: int) -> int:
    """By how many samples a window that should begin at ``begin`` comes early."""
    piece, margin = samples[4000:-4000] / 32768, 4000
    spectrum = np.fft.rfft(reference) * np.fft.rfft(piece, len(reference)).conj()
    return int(np.fft.irfft(spectrum, len(reference)).argmax()) - begin - margin


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decode")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_frames_are_those_shown_at_the_instants(folder: Path, suffix: str) -> None:
    path = write_media(folder / f"counter.{suffix}", frames=COUNTER, fps=10, gop=12)
    times_s = [0.0, 0.05, 0.95, 1.0, 2.72, 2.75, 5.95]
    assert [counter_of(f) for f in decode_frames(path, times_s)] == [0, 0, 9, 10, 27, 27, 59]
    for time_s in (0.35, 1.21, 3.33, 5.8):  # each one alone: from the key frame before it
        assert counter_of(decode_frames(path, [time_s])[0]) == int(time_s * 10)


def test_frames_of_a_transport_stream_whose_seeks_go_too_far(folder: Path) -> None:
    path = write_media(folder / "counter.ts", frames=COUNTER, fps=10, gop=12)
    offset_s = 0.0 if (span := probe(path).video_s) is None else span[0]
    times_s = [0.05, 0.95, 1.15, 2.73, 4.11]
    assert [counter_of(f) for f in decode_frames(path, [t + offset_s for t in times_s])] == [0, 9, 11, 27, 41]
    assert [counter_of(f) for f in decode_frames(path, [2.73 + offset_s])] == [27]


def test_frames_after_the_last_hold_it_within_a_tolerance(folder: Path) -> None:
    path = write_media(folder / "hold.mp4", frames=COUNTER[:20], fps=10, sound=tone(3.0))
    assert [counter_of(f) for f in decode_frames(path, [1.95, 2.1, 2.9])] == [19, 19, 19]


def test_bare_video_without_time_stamps(folder: Path) -> None:
    path = write_media(folder / "counter.h264", frames=COUNTER, fps=25)
    assert probe(path).duration_s == pytest.approx(60 / 25, abs=0.05)
    assert [counter_of(f) for f in decode_frames(path, [0.41, 2.01])] == [10, 50]


def test_picture_size_colours_and_order_of_channels(folder: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = (220, 30, 30)
    picture[:, 32:] = (30, 30, 220)
    frames = decode_frames(write_media(folder / "colours.mp4", frames=[picture] * 5), [0.2])
    assert frames.shape == (1, 48, 64, 3) and frames.dtype == np.uint8
    np.testing.assert_allclose(frames[0, 24, 8], (220, 30, 30), atol=12)
    np.testing.assert_allclose(frames[0, 24, 56], (30, 30, 220), atol=12)


@pytest.mark.parametrize(
    ("matrix", "bright"),
    [((1, 0, 0, 1), "top"), ((0, 1, -1, 0), "right"), ((-1, 0, 0, -1), "bottom"), ((0, -1, 1, 0), "left")],
)
def test_rotation_of_phone_videos(folder: Path, matrix: tuple[int, ...], bright: str) -> None:
    """The track's matrix (a b / c d) takes a pixel (x, y) to (a x + c y, b x + d y), y pointing down."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16] = 255  # the top is bright
    path = write_media(folder / f"rotated_{bright}.mp4", frames=[picture] * 3)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags to alternate group and volume: 40 bytes
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frame = decode_frames(path, [0.0])[0]
    assert frame.shape == ((48, 64, 3) if bright in ("top", "bottom") else (64, 48, 3))
    edges = {"top": frame[:8], "bottom": frame[-8:], "left": frame[:, :8], "right": frame[:, -8:]}
    means = {side: float(edge.mean()) for side, edge in edges.items()}
    assert max(means, key=lambda side: means[side]) == bright


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "aac"), ("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("flac", "flac")]
)
def test_mono_is_the_mean_of_the_channels(folder: Path, suffix: str, codec: str) -> None:
    left, right = tone(1.0, 440.0, amplitude=0.6), tone(1.0, 440.0, amplitude=0.2)
    sound = np.concatenate([left, right])
    path = write_media(folder / f"{codec}.{suffix}", sound=sound, audio_codec=codec)
    middle = decode_audio(path, 0.0, 1.0, 16000)[2000:-2000] / 32768
    reference = sound.mean(axis=0)[2000:-2000]
    assert np.std(middle) == pytest.approx(np.std(reference), rel=0.02)  # the trap: sqrt(2) times that
    np.testing.assert_allclose(middle, reference, atol=0.02)


def test_opposite_channels_cancel_and_surround_is_a_mean_too(folder: Path) -> None:
    both = np.concatenate([tone(1.0), -tone(1.0)])
    path = write_media(folder / "opposite.wav", sound=both, audio_codec="pcm_s16le")
    assert np.abs(decode_audio(path, 0.0, 1.0, 16000)).max() <= 1
    six = np.concatenate([tone(1.0, amplitude=0.1 * k) for k in range(1, 7)])
    path = write_media(folder / "six.wav", sound=six, audio_codec="pcm_s16le")
    assert np.std(decode_audio(path, 0.0, 1.0, 16000) / 32768) == pytest.approx(0.35 / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [("mp4", "aac", 44100), ("mkv", "aac", 44100), ("webm", "libopus", 48000), ("opus", "libopus", 48000),
     ("mp3", "mp3", 44100), ("flac", "flac", 44100), ("wav", "pcm_s16le", 44100)],
)  # fmt: skip
def test_windows_of_sound_begin_at_the_right_sample(folder: Path, suffix: str, codec: str, rate: int) -> None:
    sound = noise(4.0, rate)
    path = write_media(folder / f"noise_{codec}.{suffix}", sound=sound, audio_codec=codec, rate=rate)
    for start_s in (0.0, 0.3, 2.0):
        samples = decode_audio(path, start_s, 1.5, rate)
        assert len(samples) == round(1.5 * rate)
        # Matroska's and WebM's clock ticks in milliseconds
        assert abs(lag(samples, sound[0], round(start_s * rate))) <= (48 if suffix in ("mkv", "webm") else 1)


@pytest.mark.parametrize(("rate", "wanted"), [(8000, 16000), (22050, 16000), (44100, 16000), (48000, 8000)])
def test_resampling(folder: Path, rate: int, wanted: int) -> None:
    path = write_media(folder / f"rate_{rate}.wav", sound=tone(2.0, 300.0, rate), audio_codec="pcm_s16le", rate=rate)
    samples = decode_audio(path, 0.5, 1.0, wanted) / 32768
    time_s = 0.5 + np.arange(wanted) / wanted
    half_a_sample = 0.5 * 2 * np.pi * 300 * 0.5 / wanted
    reference = 0.5 * np.sin(2 * np.pi * 300 * time_s)
    np.testing.assert_allclose(samples[200:-200], reference[200:-200], atol=half_a_sample + 1e-3)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [("mp4", "aac", 44100), ("webm", "libopus", 48000), ("mp3", "mp3", 22050), ("flac", "flac", 44100),
     ("wav", "pcm_s16le", 11025), ("wav", "pcm_s16le", 44056)],
)  # fmt: skip
def test_a_sample_is_the_same_in_every_window(folder: Path, suffix: str, codec: str, rate: int) -> None:
    path = write_media(folder / f"locked_{rate}.{suffix}", sound=noise(3.0, rate, 2), audio_codec=codec, rate=rate)
    whole = decode_audio(path, 0.0, 4.0, 16000).astype(int)
    for start_s, duration_s in ((0.0, 1.0), (0.01003, 0.5), (0.7777, 1.0), (1.23456, 0.6), (2.5, 9.0)):
        window = decode_audio(path, start_s, duration_s, 16000).astype(int)
        expected = whole[round(start_s * 16000) :][: round(duration_s * 16000)]
        assert len(window) == len(expected) and np.abs(window - expected).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [("mp4", "aac", 44100), ("mov", "aac", 16000), ("mp4", "libmp3lame", 16000), ("mkv", "libopus", 48000),
     ("mkv", "flac", 44100)],
)  # fmt: skip
def test_what_was_read_before_changes_nothing(folder: Path, suffix: str, codec: str, rate: int) -> None:
    path = write_media(
        folder / f"again_{codec}.{suffix}", frames=COUNTER[:20], sound=noise(2.0, rate), audio_codec=codec, rate=rate
    )
    sounds = {window: decode_audio(path, *window, 16000) for window in ((0.0, 2.0), (0.01, 0.5), (1.3, 0.4))}
    pictures = {times: decode_frames(path, times) for times in ((0.0, 0.1), (1.2, 1.9))}
    with MediaFile(path) as media:
        for times in pictures:
            for window in sounds:
                assert np.array_equal(frames_of(media, times), pictures[times]), times
                assert np.array_equal(media.audio(*window, 16000), sounds[window]), window
                assert np.array_equal(media.audio(*window, 16000), sounds[window]), window


@pytest.mark.parametrize(("suffix", "codec", "rate"), [("mp4", "alac", 44100), ("flac", "flac", 48000)])
def test_samples_of_far_windows_are_those_of_a_near_one(folder: Path, suffix: str, codec: str, rate: int) -> None:
    """Beyond the part of a file that is decoded from its start."""
    path = write_media(folder / f"far.{suffix}", sound=noise(36.0, rate), audio_codec=codec, rate=rate)
    near = decode_audio(path, 29.0, 6.0, 16000).astype(int)
    far = decode_audio(path, 32.34567, 1.0, 16000).astype(int)
    assert np.abs(far - near[round(32.34567 * 16000) - 29 * 16000 :][:16000]).max() <= 1


def test_sound_that_is_no_number_is_refused(folder: Path) -> None:
    sound = tone(1.0)
    sound[0, 8000] = np.nan
    path = write_media(folder / "nan.wav", sound=sound, audio_codec="pcm_f32le")
    with pytest.raises(MediaError, match="the sound holds what is no number"):
        decode_audio(path, 0.0, 1.0, 16000)
    assert len(decode_audio(path, 0.6, 0.4, 16000)) == 6400


def test_sound_that_begins_late_is_preceded_by_zeros(folder: Path) -> None:
    path = write_media(folder / "late.mkv", frames=COUNTER[:30], sound=tone(2.0), sound_at_s=1.0)
    samples = decode_audio(path, 0.0, 3.0, 16000)
    onset = int(np.flatnonzero(np.abs(samples) > 2000)[0])
    assert onset / 16000 == pytest.approx(1.0, abs=0.07)  # Matroska keeps AAC's 64 ms of lead-in
    assert not samples[: onset - 1200].any()


def test_pictures_that_begin_late_keep_their_offset_to_the_sound(folder: Path) -> None:
    path = write_media(folder / "late_picture.mp4", frames=COUNTER[:20], sound=tone(3.0), frames_at_s=1.0)
    assert [counter_of(f) for f in decode_frames(path, [0.5, 1.05, 1.55, 2.95])] == [0, 0, 5, 19]


def test_flash_and_click_are_simultaneous(folder: Path) -> None:
    dark, light = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)
    frames = [light if k == 37 else dark for k in range(75)]
    sound = np.zeros((1, 48000), np.float32)
    sound[0, round(37 / 25 * 16000) :][:200] = 0.8
    path = write_media(folder / "sync.mp4", frames=frames, fps=25, sound=sound)
    with MediaFile(path) as media:
        samples = media.audio(1.0, 1.0, 16000)
        pictures = frames_of(media, [1.0 + k / 100 for k in range(100)])
    heard_s = int(np.abs(samples.astype(int)).argmax()) / 16000
    seen_s = int((pictures.mean(axis=(1, 2, 3)) > 128).argmax()) / 100
    assert abs(heard_s - seen_s) < 0.02


def test_window_over_the_end_gives_what_there_is(folder: Path) -> None:
    path = write_media(folder / "end.wav", sound=tone(1.0), audio_codec="pcm_s16le")
    assert len(decode_audio(path, 0.75, 1.0, 16000)) == 4000
    assert len(decode_audio(path, 3.0, 1.0, 16000)) == 0


def test_duration_of_a_variable_bit_rate_mp3_is_counted(folder: Path) -> None:
    sound = np.concatenate([tone(5.0, amplitude=0.0), 0.5 * noise(5.0, 16000)], axis=1)
    path = write_media(folder / "vbr.mp3", sound=sound, audio_codec="mp3", container_options={"write_xing": "0"})
    assert probe(path).duration_s == pytest.approx(10.0, abs=0.2)


def broken(folder: Path) -> dict[str, tuple[Path, str]]:
    """One file for each thing that can be wrong."""
    good = write_media(folder / "good.mp4", frames=COUNTER, sound=noise(6.0, 16000) * 3).read_bytes()
    front = write_media(
        folder / "front.mp4", frames=COUNTER, sound=noise(6.0, 16000) * 3, container_options=FASTSTART
    ).read_bytes()
    mkv = write_media(folder / "good.mkv", frames=COUNTER, sound=noise(6.0, 16000) * 3).read_bytes()
    contents = {
        "empty.mp4": (b"", "empty file"),
        "text.mp4": (b"This is no video.\n" * 200, "not a media file"),
        "subtitles.mp4": (b"1\n00:00:01,000 --> 00:00:02,000\nhello\n", "not a media file"),
        "truncated.mp4": (good[: len(good) // 2], "cannot be decoded"),
        "truncated_front.mp4": (front[: len(front) // 2], "cannot be decoded"),
        "truncated.mkv": (mkv[: len(mkv) // 2], "cannot be decoded"),
        "head_only.mp4": (front[: front.index(b"mdat") + 64], "cannot be decoded"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return {name: (folder / name, reason) for name, (_, reason) in contents.items()} | {
        "missing.mp4": (folder / "missing.mp4", "missing file"),
        "folder.mp4": (folder, "missing file"),
    }


def test_broken_files_say_what_is_wrong(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, (path, reason) in broken(folder).items():
        with pytest.raises(MediaError) as caught, MediaFile(path) as media:
            media.audio(0.0, 6.0, 16000)
            frames_of(media, [0.0, 3.0, 5.5])
        assert caught.value.reason == reason, name
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert caught.value.reason in REASONS
    assert capfd.readouterr().err == ""  # the codec library does not write over the progress bar


def test_a_picture_that_changes_its_size(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for k in range(20):
            coder = av.CodecContext.create("mjpeg", "w")
            coder.width, coder.height, coder.pix_fmt, coder.time_base = (
                64 if k < 10 else 96,
                48,
                "yuvj420p",
                Fraction(1, 10),
            )
            frame = av.VideoFrame.from_ndarray(counter_frame(k, coder.width), format="rgb24").reformat(
                format="yuvj420p"
            )
            frame.pts = k
            for packet in coder.encode(frame):
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, k, k, Fraction(1, 10)
                container.mux(packet)
    with MediaFile(path) as media:
        for times_s in ([0.2, 0.9], [0.9, 1.5], [1.5]):  # the last one begins at frames of the other size
            frames = frames_of(media, times_s)
            assert frames.shape == (len(times_s), 48, 64, 3), "all are scaled to the size of the file's first frame"
            assert [counter_of(frame) for frame in frames] == [int(time_s * 10) for time_s in times_s]


def test_pictures_are_taken_before_anything_else_is_asked_for(folder: Path) -> None:
    path = folder / "front.mp4"
    with MediaFile(path) as media:
        half = iter(media.frames([0.1, 0.5, 0.9]))
        assert counter_of(next(half)) == 1
        media.audio(0.0, 0.5, 16000)
        with pytest.raises(RuntimeError, match="all pictures must be taken before anything else is asked for"):
            next(half)
        half, other = media.frames([0.1, 0.5, 0.9]), media.frames([0.2, 0.3])
        assert counter_of(next(half)) == 1 and [counter_of(picture) for picture in other] == [2, 3]
        with pytest.raises(RuntimeError, match="all pictures must be taken"):
            next(half)
        half = media.frames([0.1, 0.5, 0.9])
        next(half)
    with pytest.raises(RuntimeError, match="all pictures must be taken"):
        next(half)


def test_what_lies_before_the_break_can_be_read(folder: Path) -> None:
    path, _ = broken(folder)["truncated_front.mp4"]
    assert [counter_of(f) for f in decode_frames(path, [0.05, 0.95])] == [0, 9]
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_frames(path, [5.0])
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_audio(path, 5.0, 1.0, 16000)


def test_missing_tracks(folder: Path) -> None:
    silent = write_media(folder / "silent.mp4", frames=COUNTER[:10])
    blind = write_media(folder / "blind.mp4", sound=tone(1.0))
    assert probe(silent).audio_s is None and probe(silent).video_s is not None
    assert probe(blind).audio_s is not None and probe(blind).video_s is None
    with pytest.raises(MediaError, match="no audio track"):
        decode_audio(silent, 0.0, 1.0, 16000)
    with pytest.raises(MediaError, match="no video track"):
        decode_frames(blind, [0.0])


def test_open_groups_of_pictures(folder: Path) -> None:
    """After a seek, the pictures between a key frame and the one before it cannot be decoded, and are not wanted."""

    path = folder / "open.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {
            "crf": "10",
            "x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0",
        }
        for picture in COUNTER:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    for k in range(60):
        assert counter_of(decode_frames(path, [k / 10 + 0.05])[0]) == k


def test_a_file_has_a_deadline(folder: Path) -> None:
    path = write_clip(folder / "slow.mp4", seconds=4.0)
    with pytest.raises(ValueError, match=r"timeout_s must be positive, got 0.0"):
        MediaFile(path, timeout_s=0.0)
    with MediaFile(path, timeout_s=0.5) as media:
        assert len(frames_of(media, [0.0])) == 1
        time.sleep(0.6)
        for read in (lambda: media.audio(0.0, 1.0, 16000), lambda: frames_of(media, [0.0])):
            with pytest.raises(MediaError) as caught:
                read()
            assert caught.value.reason == "timed out" and caught.value.detail == "not done after 0.5 s"


def test_cover_art_is_no_film(folder: Path) -> None:
    from av.stream import Disposition

    path = folder / "cover.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        audio = container.add_stream("aac", rate=16000, layout="mono")
        container.mux(
            cover.encode(av.VideoFrame.from_ndarray(counter_frame(9), format="rgb24").reformat(format="yuvj420p"))
        )
        frame = av.AudioFrame.from_ndarray(tone(1.0), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    assert probe(path).video_s is None and probe(path).audio_s is not None


def test_first_streams_of_a_file_with_several(shared_data: Path) -> None:
    path = shared_data / "nasa_13013.mp4"
    info = probe(path)
    assert info.audio_s is not None and info.audio_s[1] == pytest.approx(13.056, abs=1e-3)
    assert info.video_s is not None and info.video_s[1] == pytest.approx(13.0, abs=1e-3)
    assert decode_frames(path, [0.0, 12.9]).shape == (2, 180, 320, 3)  # the second one is 480 pixels wide
    assert len(decode_audio(path, 11.0, 4.0, 16000)) == pytest.approx(2.05 * 16000, abs=0.1 * 16000)


def test_a_clip_is_opened_once_for_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    opened = []
    original = av.open
    monkeypatch.setattr(av, "open", lambda *args, **kwargs: opened.append(args) or original(*args, **kwargs))
    with MediaFile(write_clip(folder / "once.mp4")) as media:
        opened.clear()
        media.audio(0.3, 0.5, 16000)
        frames_of(media, [0.3, 0.5])
    assert opened == []
