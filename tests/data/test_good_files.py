"""Files that are in order, however strange: pauses, joined, cut and changing ones are read; lost audio is not."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import (
    CONTAINERS,
    SHARED,
    counted_clip,
    counter_of,
    decode_audio,
    decode_frames,
    probe,
    tone,
    write_media,
)

from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import MediaError
from diffmavil.data.wholeness import WALKS

RATE = 16000


def remux(
    given: Path,
    path: Path,
    *,
    keep: Callable[[Any], bool] = lambda packet: True,
    shift_s: float = 0.0,
    again_after_s: float | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy a file's packets without decoding: some of them, later ones, or all of them twice."""
    with av.open(str(path), "w", options=options or {}) as writer:
        streams: dict[int, Any] = {}
        for begins_s in (0.0,) if again_after_s is None else (0.0, again_after_s):
            with av.open(str(given)) as reader:
                streams = streams or {s.index: writer.add_stream_from_template(s) for s in reader.streams}
                for packet in reader.demux():
                    if packet.dts is not None and keep(packet):
                        ticks = round((begins_s + shift_s) / packet.time_base)
                        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                        packet.stream = streams[packet.stream_index]
                        writer.mux(packet)
    return path


def time_s(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def is_silent(samples: np.ndarray[Any, np.dtype[np.int16]], begin_s: float, end_s: float) -> bool:
    return int(np.abs(samples[round(begin_s * RATE) : round(end_s * RATE)].astype(int)).max()) < 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("good")


def made(folder: Path, kind: str) -> Path:
    """Four seconds."""
    return counted_clip(folder, kind, 4.0, repeat=2)


@pytest.mark.parametrize("kind", sorted({*CONTAINERS} - {"asf", "avi"}))
def test_a_pause_between_intact_packets_is_silence(folder: Path, kind: str) -> None:
    given = made(folder, kind)
    start_s = 0.0
    with av.open(str(given)) as reader:
        start_s = (reader.start_time or 0) / 1e6
    path = remux(
        given,
        folder / f"pause.{kind}",
        keep=lambda packet: packet.stream.type == "video" or not 1.5 <= time_s(packet) - start_s < 2.2,
    )
    samples = decode_audio(path, 0.0, 5.0, RATE)
    assert len(samples) / RATE == pytest.approx(4.0, abs=0.1)
    if kind == "opus":  # a page of Ogg says when its last packet ends, and no more
        begins = [is_silent(samples, begin_s, begin_s + 0.5) for begin_s in np.arange(1.0, 3.5, 0.05)]
        assert any(begins) and not is_silent(samples, 0.5, 0.9)
        return
    assert not is_silent(samples, 0.5, 1.2) and is_silent(samples, 1.7, 2.1) and not is_silent(samples, 2.5, 3.5)
    window = decode_audio(path, 1.8, 1.0, RATE)  # one that begins in the pause
    assert np.abs(window.astype(int) - samples[round(1.8 * RATE) :][:RATE]).max() <= 1


@pytest.mark.parametrize("kind", ["mkv", "webm", "flv", "opus", "mpg", "asf", "ts"])
def test_audio_whose_bytes_are_lost_is_no_pause(folder: Path, kind: str) -> None:
    content = bytearray(made(folder, kind).read_bytes())
    for share in (0.3, 0.45, 0.6):
        at, size = round(len(content) * share), max(3000, len(content) // 20)
        for lost, damage in (("zeroed", bytes(size)), ("cut", b"")):
            path = folder / f"lost.{kind}"
            path.write_bytes(content[:at] + damage + content[at + size :])
            try:
                samples = decode_audio(path, 0.0, 5.0, RATE)
            except MediaError:
                continue
            silences = [is_silent(samples, begin, begin + 0.06) for begin in np.arange(0.2, 3.6, 0.03)]
            assert not any(silences) and len(samples) > 3.85 * RATE, (lost, share)


def test_a_pause_that_a_wrong_time_stamp_makes_is_damage(tmp_path: Path) -> None:
    def late(packet: Any) -> bool:
        if packet.stream.type == "audio" and 1.5 <= time_s(packet) < 1.56:
            packet.pts, packet.dts = packet.pts + 256, packet.pts + 256
        return True

    given = write_media(tmp_path / "a.mka", sound=tone(3.0), audio_codec="flac")
    content = bytearray(remux(given, tmp_path / "b.mka").read_bytes())
    decode_audio(tmp_path / "b.mka", 0.0, 3.0, RATE)
    block = content.index(b"\x81", len(content) // 2)  # the number of the track; its time stamp follows
    while content[block - 3 : block] == content[block : block + 3] or content[block + 3] != 0x80:
        block = content.index(b"\x81", block + 1)
    content[block + 1] ^= 1  # 256 ms later
    (tmp_path / "c.mka").write_bytes(content)
    with pytest.raises(MediaError, match="time goes back from"):
        decode_audio(tmp_path / "c.mka", 0.0, 3.0, RATE)


@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4", "flv", "ts"])
def test_two_recordings_in_one(folder: Path, kind: str) -> None:
    path = remux(made(folder, kind), folder / f"joined.{kind}", again_after_s=4.3)
    samples = decode_audio(path, 0.0, 9.0, RATE)
    assert (probe(path).duration_s, len(samples) / RATE) == pytest.approx((8.3, 8.3), abs=0.15)
    assert is_silent(samples, 4.1, 4.25) and not is_silent(samples, 4.5, 8.0)


@pytest.mark.parametrize("shift_s", [7.0, 1000.0])
@pytest.mark.parametrize("kind", ["mkv", "webm", "flv", "asf"])
def test_time_stamps_that_do_not_begin_at_zero(folder: Path, kind: str, shift_s: float) -> None:
    path = remux(made(folder, kind), folder / f"from_{shift_s:.0f}.{kind}", shift_s=shift_s)
    info = probe(path)
    assert info.audio_s is not None and info.video_s is not None
    for length_s in (info.duration_s, info.audio_s[1], info.video_s[1]):
        assert length_s == pytest.approx(4.0, abs=0.15)
    assert len(decode_audio(path, 0.0, 5.0, RATE)) / RATE == pytest.approx(4.0, abs=0.1)
    assert [counter_of(f) for f in decode_frames(path, [1.01, 3.01])] == pytest.approx([12, 37], abs=1)


def test_a_stated_length_that_counts_from_the_first_time_stamp(folder: Path) -> None:
    """As mkvmerge writes it; FFmpeg states the last time stamp."""
    path = remux(made(folder, "mkv"), folder / "length.mkv", shift_s=7.0)
    content = bytearray(path.read_bytes().replace(b"DURATION", b"ENDURING"))
    at = content.index(b"\x44\x89\x88") + 3
    (stated_ms,) = struct.unpack(">d", content[at : at + 8])
    assert stated_ms == pytest.approx(11000, abs=100)
    content[at : at + 8] = struct.pack(">d", stated_ms - 7000)
    path.write_bytes(content)
    assert probe(path).duration_s == pytest.approx(4.0, abs=0.1)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_audio(path, 0.0, 3.9, RATE)


@pytest.mark.parametrize("ends", ["audio", "video"])
@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4", "flv", "ts", "asf"])
def test_a_stream_that_ends_before_the_other(folder: Path, kind: str, ends: str) -> None:
    given = made(folder, kind)
    with av.open(str(given)) as reader:
        begin_s = (reader.start_time or 0) / 1e6
    path = remux(
        given,
        folder / f"{ends}_ends.{kind}",
        keep=lambda packet: packet.stream.type != ends or time_s(packet) - begin_s < 2.0,
    )
    assert probe(path).duration_s == pytest.approx(4.0, abs=0.15)
    length_s = 2.0 if ends == "audio" else 4.0
    assert len(decode_audio(path, 0.0, 5.0, RATE)) / RATE == pytest.approx(length_s, abs=0.1)
    last = 49 if ends == "audio" else 25
    assert counter_of(decode_frames(path, [3.95])[0]) == pytest.approx(last, abs=1.5)


CHANGES = [(1, 2, RATE), (2, 1, RATE), (2, 6, RATE), (2, 2, 32000)]


@pytest.mark.parametrize(("before", "after", "rate"), CHANGES)
@pytest.mark.parametrize("kind", ["aac", "ac3", "mp3"])
def test_channels_and_rate_that_change(tmp_path: Path, kind: str, before: int, after: int, rate: int) -> None:
    """The mean of the channels in each part: their level tells which."""
    if kind == "mp3" and after > 2:
        pytest.skip("MP3 has two channels")
    first_rate = 48000 if kind == "ac3" else RATE
    rate = 48000 if kind == "ac3" and rate == RATE else rate
    parts = []
    for name, channels, rate_hz in (("a", before, first_rate), ("b", after, rate)):
        sound = np.concatenate([tone(2.0, 440.0, rate_hz, 0.4 / (k + 1)) for k in range(channels)])
        options = {"write_xing": "0", "id3v2_version": "0"} if kind == "mp3" else {}
        path = tmp_path / f"{name}.{kind}"
        write_media(path, sound=sound, rate=rate_hz, audio_codec=kind, container_options=options)
        parts.append(path.read_bytes())
    (tmp_path / f"both.{kind}").write_bytes(b"".join(parts))
    samples = decode_audio(tmp_path / f"both.{kind}", 0.0, 9.0, RATE) / 32768
    assert probe(tmp_path / f"both.{kind}").duration_s == pytest.approx(len(samples) / RATE, abs=0.1)
    assert len(samples) / RATE == pytest.approx(4.1, abs=0.15)
    for channels, begin_s in ((before, 0.5), (after, 2.6)):
        mean = float(np.mean([0.4 / (k + 1) for k in range(channels)]))
        assert np.std(samples[round(begin_s * RATE) :][:RATE]) == pytest.approx(
            mean / np.sqrt(2), rel=0.12
        )  # the sixth has no 440 Hz


def test_the_pre_skip_is_no_part_of_an_opus_file(folder: Path) -> None:
    content = bytearray(made(folder, "opus").read_bytes())
    head = content.index(b"OpusHead")
    content[head + 10 : head + 12] = struct.pack("<H", 48000)
    path = folder / "skip.opus"
    with av.open(str(made(folder, "opus"))) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.audio[0])
        stream.codec_context.extradata = bytes(content[head : head + 19])
        for packet in reader.demux():
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    length_s = probe(path).duration_s
    assert length_s == pytest.approx(3.0, abs=0.05)
    assert len(decode_audio(path, 0.0, 5.0, RATE)) / RATE == pytest.approx(length_s, abs=0.01)


def flac(path: Path, *, seconds: float = 4.0) -> Path:
    hiss = np.random.default_rng(0).normal(0, 0.1, (1, round(seconds * RATE))).astype(np.float32)
    return write_media(path, sound=hiss, audio_codec="flac")


def flac_frames(content: bytes, path: Path) -> Iterable[tuple[int, int]]:
    with av.open(str(path)) as reader:
        return [(packet.pos, packet.size) for packet in reader.demux() if packet.size]


def test_a_flac_file_is_as_long_as_its_frames(tmp_path: Path) -> None:
    given = flac(tmp_path / "given.flac")
    content, frames = given.read_bytes(), list(flac_frames(b"", given))
    whole = decode_audio(given, 0.0, 5.0, RATE)
    assert len(whole) == 4 * RATE
    middle, count = frames[len(frames) // 2][0], len(frames) // 2
    (tmp_path / "cut.flac").write_bytes(content[:middle])
    begin = decode_audio(tmp_path / "cut.flac", 0.0, 5.0, RATE)
    assert probe(tmp_path / "cut.flac").duration_s == pytest.approx(len(begin) / RATE) and len(begin) > RATE
    np.testing.assert_array_equal(begin, whole[: len(begin)])
    (tmp_path / "late.flac").write_bytes(content[: frames[0][0]] + content[middle:])
    end = decode_audio(tmp_path / "late.flac", 0.0, 5.0, RATE)
    np.testing.assert_array_equal(end, whole[-len(end) :])
    assert probe(tmp_path / "late.flac").duration_s == pytest.approx(len(end) / RATE)
    for lost in (frames[count][0], frames[0][0], frames[-1][0]):  # a frame's header
        damaged = bytearray(content)
        damaged[lost : lost + 4] = bytes(4)
        (tmp_path / "damaged.flac").write_bytes(damaged)
        with pytest.raises(MediaError, match="cannot be decoded"):
            decode_audio(tmp_path / "damaged.flac", 0.0, 5.0, RATE)
    (tmp_path / "half.flac").write_bytes(content[: middle + 500])
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_audio(tmp_path / "half.flac", 0.0, 5.0, RATE)


STRUCTURES = {
    "opus": ("ogg", b"OggS"), "webm": ("matroska,webm", b"\xa3\x40"), "mkv": ("matroska,webm", b"\xa3"),
    "flv": ("flv", b"\x09\0"), "ts": ("mpegts", b"G"),
    "mpg": ("mpeg", b"\0\0\1\xc0"), "asf": ("asf", b"\x82\0\0"), "avi": ("avi", b"01wb"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRUCTURES)
def test_what_is_missing_shows_in_the_structure(folder: Path, tmp_path: Path, kind: str) -> None:
    name, mark = STRUCTURES[kind]
    path = made(folder, kind)
    assert WALKS[name](str(path))
    content = path.read_bytes()
    middle = content.index(mark, len(content) // 2)
    for damaged in (
        content[:middle] + bytes(20) + content[middle + 20 :],
        content[:middle] + content[middle + 200 :],
        content[: middle + 100],
    ):
        (tmp_path / "damaged").write_bytes(damaged)
        assert not WALKS[name](str(tmp_path / "damaged"))
    if kind == "opus":
        (tmp_path / "damaged").write_bytes(content[:middle] + content[content.index(mark, middle + 4) :])
        assert not WALKS[name](str(tmp_path / "damaged")), "a page that is missing shows in the numbers"


CASES = {
    "1_begins_at_30s.mkv": (6.0, 6.0),
    "2_mono_then_stereo.aac": (4.01, None),
    "3_dtx.webm": (6.0, 6.0),
    "4_joined.mp4": (6.0, 6.0),
    "5_one_picture.mp4": (6.0, 6.0),
    "6_plain.mp4": (2.0, 2.0),
    "6_mirrored.mp4": (2.0, 2.0),
    "7_preskip.opus": (3.0, None),
    "8_cut.flac": (5.99, None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_shared_cases(name: str) -> None:
    path = SHARED.parent / "cases" / name
    if not path.is_file():
        pytest.skip("the folder shared/cases is not beside the project")
    audio_s, video_s = CASES[name]
    with MediaFile(path) as media:
        assert len(media.audio(0.0, 10.0, RATE)) / RATE == pytest.approx(audio_s, abs=0.03)
        assert media.info.duration_s == pytest.approx(audio_s, abs=0.03)
        assert (media.info.shown_s and media.info.shown_s[1]) == (video_s and pytest.approx(video_s, abs=0.03))


def test_pauses_and_mirrors_of_the_shared_cases() -> None:
    cases = SHARED.parent / "cases"
    if not cases.is_dir():
        pytest.skip("the folder shared/cases is not beside the project")
    assert is_silent(decode_audio(cases / "3_dtx.webm", 0.0, 6.0, RATE), 2.1, 2.35)
    assert is_silent(decode_audio(cases / "4_joined.mp4", 2.92, 0.08, RATE), 0.02, 0.06)
    mirrored, plain = (decode_frames(cases / f"6_{kind}.mp4", [1.0])[0] for kind in ("mirrored", "plain"))
    np.testing.assert_allclose(mirrored[:, ::-1].astype(int), plain, atol=4)
