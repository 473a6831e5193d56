"""Walks through malformed files end and say no; what a change of size, a deadline or a long file asks of a reader."""

from __future__ import annotations

import random
import struct
import time
import weakref
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import counted_clip, counter_frame, tone, write_media

from diffmavil.data import wholeness
from diffmavil.data.container import Container
from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import MediaError
from diffmavil.data.wholeness import WALKS

FORMATS = {
    "webm": "matroska,webm",
    "mkv": "matroska,webm",
    "ts": "mpegts",
    "flv": "flv",
    "opus": "ogg",
    "mpg": "mpeg",
    "avi": "avi",
    "asf": "asf",
}
"""Endings, and FFmpeg's names of the formats."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wholeness")


def made(folder: Path, kind: str) -> Path:
    """A second."""
    return counted_clip(folder, kind, 1.0)


@pytest.mark.parametrize("kind", FORMATS)
def test_whatever_is_malformed_is_not_whole(folder: Path, tmp_path: Path, kind: str) -> None:
    name, content, rng = FORMATS[kind], made(folder, kind).read_bytes(), random.Random(0)
    assert WALKS[name](str(made(folder, kind)))
    path, answers = tmp_path / "damaged", []
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 2, 4))):
            at, size = rng.randrange(min(len(damaged), 2000)), rng.choice((1, 4, 8))
            damaged[at : at + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
        path.write_bytes(damaged[: rng.randrange(1, len(damaged)) if rng.random() < 0.2 else None])
        answers.append(WALKS[name](str(path)))
    assert False in answers and set(answers) <= {True, False}
    assert not WALKS[name](str(tmp_path / "missing"))


@pytest.mark.parametrize(("at", "value"), [(16, 1 << 63), (56, 1 << 63), (56, 1 << 40), (92, 0)])
def test_what_the_header_of_asf_states_is_within_the_file(folder: Path, tmp_path: Path, at: int, value: int) -> None:
    content = bytearray(made(folder, "asf").read_bytes())
    at += 0 if at == 16 else content.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    size = 4 if value == 0 else 8
    content[at : at + size] = value.to_bytes(size, "little")
    (tmp_path / "a.asf").write_bytes(content)
    begin = time.monotonic()
    assert not WALKS["asf"](str(tmp_path / "a.asf"))
    assert time.monotonic() - begin < 1.0


def test_lists_in_lists_of_avi(folder: Path, tmp_path: Path) -> None:
    def nested(depth: int) -> bool:
        content, inner = bytearray(made(folder, "avi").read_bytes()), b""
        for k in range(depth):
            inner = b"LIST" + struct.pack("<I", 4 + len(inner)) + (b"movi" if k == depth - 1 else b"rec ") + inner
        content += inner
        content[4:8] = struct.pack("<I", len(content) - 8)
        (tmp_path / "nested.avi").write_bytes(content)
        return bool(WALKS["avi"](str(tmp_path / "nested.avi")))

    assert nested(1) and nested(2)
    assert not nested(3) and not nested(3000)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_walk_ends_at_the_deadline(folder: Path, kind: str) -> None:
    def check() -> None:
        raise MediaError("a", "timed out")

    with pytest.raises(MediaError, match="timed out"):
        WALKS[FORMATS[kind]](str(made(folder, kind)), check)


def test_a_file_is_walked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pauses.mka"
    whole = write_media(tmp_path / "whole.mka", sound=tone(4.0), audio_codec="flac")
    with av.open(str(whole)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.audio[0])
        for k, packet in enumerate(reader.demux()):
            if packet.dts is not None and k % 4 != 2:
                packet.stream = stream
                writer.mux(packet)
    walks, walk = [], WALKS["matroska,webm"]
    monkeypatch.setitem(wholeness.WALKS, "matroska,webm", lambda *args: walks.append(args) or walk(*args))
    with MediaFile(path) as media:
        for start_s in (0.0, 1.0, 0.0):
            assert len(media.audio(start_s, 2.0, 16000)) == 32000
    assert len(walks) == 1


@pytest.mark.parametrize("kind", ["ts", "mkv", "h264"])
def test_a_size_that_changes_is_brought_to_the_first(tmp_path: Path, kind: str) -> None:
    parts = []
    for width, height in ((128, 96), (64, 48)):
        frames = [counter_frame(k, width, height) for k in range(30)]
        parts.append(write_media(tmp_path / f"{width}.h264", frames=frames, fps=10, gop=10).read_bytes())
    path = tmp_path / f"both.{kind}"
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    if kind != "h264":
        with av.open(str(tmp_path / "both.h264")) as reader, av.open(str(path), "w") as writer:
            stream, k = writer.add_stream_from_template(reader.streams.video[0]), 0
            for packet in reader.demux():
                if packet.size:
                    packet.pts = packet.dts = round(k / 10 / packet.time_base)
                    packet.stream, k = stream, k + 1
                    writer.mux(packet)
    late_s = 1.9 if kind == "h264" else 4.5  # bare frames last 1/25 s
    for times_s in ([0.5, late_s], [late_s], [late_s, late_s + 0.2]):
        with MediaFile(path) as media:
            frames = list(media.frames(times_s))
            assert {frame.shape for frame in frames} == {(96, 128, 3)}
            assert [frame.shape for frame in media.frames([late_s, late_s + 0.2])] == [(96, 128, 3)] * 2
            assert np.ptp(frames[-1]) < 30


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), bytes(40000), b"APETAGEX" + bytes(range(256)) * 160])
def test_bytes_behind_the_last_frame_of_flac(tmp_path: Path, tail: bytes) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.1, (1, 64000)).astype(np.float32)
    path = write_media(tmp_path / "a.flac", sound=hiss, audio_codec="flac")
    with MediaFile(path) as media:
        whole = media.audio(0.0, 5.0, 16000)
    (tmp_path / "b.flac").write_bytes(path.read_bytes() + tail)
    with MediaFile(tmp_path / "b.flac") as media:
        np.testing.assert_array_equal(media.audio(0.0, 5.0, 16000), whole)
        np.testing.assert_array_equal(media.audio(3.5, 5.0, 16000), whole[56000:])
        assert media.info.duration_s == pytest.approx(4.0, abs=1e-3)


def test_a_layout_that_changes_with_each_frame_keeps_no_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of ADTS, whose length is in their headers, of a mono file and a stereo one in turn."""

    def frames(channels: int) -> list[bytes]:
        sound = np.concatenate([tone(3.0, 440.0)] * channels)
        content = write_media(tmp_path / f"{channels}.aac", sound=sound).read_bytes()
        found = []
        while content:
            size = (content[3] & 3) << 11 | content[4] << 3 | content[5] >> 5
            found.append(content[:size])
            content = content[size:]
        return found

    (tmp_path / "both.aac").write_bytes(b"".join(a + b for a, b in zip(frames(1), frames(2), strict=True)))
    living, most, graph = [], [], av.filter.Graph

    def counted() -> Any:
        made = graph()
        living.append(weakref.ref(made))
        most.append(sum(each() is not None for each in living))
        return made

    monkeypatch.setattr(av.filter, "Graph", counted)
    with MediaFile(tmp_path / "both.aac") as media:
        samples = media.audio(0.0, 6.0, 16000)
    assert len(samples) == pytest.approx(6 * 16000, abs=3000)
    assert len(most) > 80 and max(most) <= 2


def long_file(path: Path, seconds: int = 90) -> Path:
    """Noise, each second louder than the one before."""
    levels = np.repeat(np.linspace(0.01, 0.2, seconds), 16000)
    hiss = np.random.default_rng(0).normal(0, 1, seconds * 16000) * levels
    kind = "wavpack" if path.suffix == ".wv" else "flac"
    return write_media(path, sound=hiss[None].astype(np.float32), audio_codec=kind)


@pytest.mark.parametrize("suffix", ["flac", "wv", "oga"])
def test_a_long_file_whose_frames_are_in_a_row_is_not_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = long_file(tmp_path / f"a.{suffix}")
    with MediaFile(path) as media:
        whole = media.audio(0.0, 100.0, 16000)
        assert len(whole) == 90 * 16000 and media.info.duration_s == pytest.approx(90.0, abs=1e-3)
        decoded = 0
        decode = Container.decode

        def counted(self: Container, kind: Any, start_s: float) -> Any:
            nonlocal decoded
            for time_s, frame in decode(self, kind, start_s):
                decoded += frame.samples
                yield time_s, frame

        monkeypatch.setattr(Container, "decode", counted)
        for start_s in (80.0, 31.234, 0.5, 88.5):
            window = media.audio(start_s, 2.0, 16000)
            first = round(start_s * 16000)
            assert np.abs(window.astype(int) - whole[first : first + 32000]).max() <= 1
        assert decoded < 30 * 16000


@pytest.mark.parametrize("suffix", ["flac", "wv", "oga"])
def test_joined_and_cut_long_files_are_as_long_as_their_frames(tmp_path: Path, suffix: str) -> None:
    path = long_file(tmp_path / f"a.{suffix}")
    with MediaFile(path) as media:
        whole = media.audio(0.0, 100.0, 16000)
    content = path.read_bytes()
    if suffix == "flac":
        with av.open(str(path)) as reader:
            frames = content[next(packet.pos for packet in reader.demux()) :]
        (tmp_path / f"twice.{suffix}").write_bytes(content + frames)
        with MediaFile(tmp_path / f"twice.{suffix}") as media:
            assert media.info.duration_s == pytest.approx(180.0, abs=1e-3)
            np.testing.assert_array_equal(media.audio(0.0, 200.0, 16000), np.concatenate([whole, whole]))
    late = tmp_path / f"late.{suffix}"
    with av.open(str(path)) as reader, av.open(str(late), "w") as writer:
        stream, first_s = writer.add_stream_from_template(reader.streams.audio[0]), 0.0
        for packet in reader.demux():
            if packet.size and packet.pts * packet.time_base >= 45:
                first_s = first_s or float(packet.pts * packet.time_base)
                packet.stream = stream
                writer.mux(packet)
    with MediaFile(late) as media:
        assert media.info.duration_s == pytest.approx(90.0 - first_s, abs=1e-3)
        window = media.audio(40.0, 20.0, 16000)
        np.testing.assert_array_equal(window, whole[-len(window) :])
