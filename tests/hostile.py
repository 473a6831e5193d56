"""Two hundred broken, strange and hostile media files, made from a few good ones with a fixed seed.

python tests/hostile.py FOLDER
"""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

FPS: Final = 8
SECONDS: Final = 3
RATE: Final = 16000
TIMES_S: Final = tuple((k + 0.5) / FPS for k in range(FPS * SECONDS))

Pictures = list[npt.NDArray[np.uint8]]
Sound = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A file, and what it should be read as.

    Args:
        group: What was done to it.
        path: The file.
        like: The good file whose sound and pictures it should give; ``None`` if it cannot be read.
        times_s: Instants at which the good file's pictures should be seen.
        begins_s: Where in the good file it begins.
        turns: Quarter turns to the left of the pictures.
        must_read: Whether it is a good file, however strange, and must not be refused.
    """

    group: str
    path: Path
    like: Path | None
    times_s: Sequence[float] = field(default=TIMES_S, repr=False)
    begins_s: float = 0.0
    turns: int = 0
    must_read: bool = False


@cache
def _pictures() -> Pictures:
    y, x = np.mgrid[:144, :256]
    pictures: Pictures = []
    for k in range(FPS * SECONDS):
        waves = [np.sin((x + 9 * k) / 19), np.sin((y + 6 * k) / 13), np.sin((x + y - 12 * k) / 31)]
        picture = 127 + 100 * np.stack(waves, axis=-1)
        picture[20 + 3 * k : 50 + 3 * k, 90:140] = 255
        pictures.append(picture.astype(np.uint8))
    return pictures


def _sound() -> Sound:
    time_s = np.arange(SECONDS * RATE) / RATE
    hiss = np.random.default_rng(0).standard_normal(len(time_s))
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * time_s) * time_s) + 0.02 * hiss)[None].astype(np.float32)


def encode(
    path: Path,
    video: str | None = "libx264",
    audio: str | None = "aac",
    *,
    times_s: Sequence[float] | None = None,
    shift_s: float = 0.0,
    pix_fmt: str = "yuv420p",
    channels: int = 1,
    tracks: int = 1,
    gop: int = 12,
    width: int = 256,
    options: dict[str, str] | None = None,
) -> Path:
    """The pictures and the sound as a file of this sort; further tracks are darker and quieter, wider ones repeat."""
    with av.open(str(path), "w", options=options or {}) as container:
        films = [container.add_stream(video, rate=FPS) for _ in range(tracks)] if video else []
        layout = {1: "mono", 6: "5.1"}[channels]
        sounds = [container.add_stream(audio, rate=RATE, layout=layout) for _ in range(tracks)] if audio else []
        for film in films:
            film.width, film.height, film.pix_fmt, film.gop_size = width, 144, pix_fmt, gop
            film.codec_context.time_base = Fraction(1, 1000)
            film.codec_context.options = {"deadline": "realtime", "cpu-used": "8"} if "vp" in str(video) else {}
        for number, film in enumerate(films):
            for k, picture in enumerate(_pictures()):
                wide = np.tile(picture, (1, -(-width // 256), 1))[:, :width] // (number + 1)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide), format="rgb24")
                at_s = (k / FPS if times_s is None else times_s[k]) + shift_s
                frame.pts, frame.time_base = round(at_s * 1000), Fraction(1, 1000)
                container.mux(film.encode(frame))
            container.mux(film.encode(None))
        for number, track in enumerate(sounds):
            sound = np.repeat(_sound() / (number + 1), channels, axis=0)
            for begin in range(0, sound.shape[1], 1024):
                block = np.ascontiguousarray(sound[:, begin : begin + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = begin + round(shift_s * RATE)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def _good(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "front.mp4": encode(folder / "front.mp4", options={"movflags": "faststart"}),
        "end.mp4": encode(folder / "end.mp4"),
        "film.mkv": encode(folder / "film.mkv"),
        "film.webm": encode(folder / "film.webm", "libvpx-vp9", "libopus"),
        "film.ts": encode(folder / "film.ts"),
        "film.avi": encode(folder / "film.avi", "mpeg4", "mp3"),
        "sound.wav": encode(folder / "sound.wav", None, "pcm_s16le"),
        "sound.flac": encode(folder / "sound.flac", None, "flac"),
    }


class _Maker:
    """Writes the cases into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.good = _good(folder / "good")
        self.rng = np.random.default_rng(1)

    def put(self, group: str, name: str, content: bytes, like: Path | None = None) -> Case:
        path = self.folder / name
        path.write_bytes(content)
        return Case(group, path, like)

    def truncated(self) -> Iterator[Case]:
        for name, good in self.good.items():
            content = good.read_bytes()
            for tenth in range(1, 10):
                yield self.put("truncated", f"cut{tenth}_{name}", content[: len(content) * tenth // 10], good)

    def flipped(self) -> Iterator[Case]:
        for name, good in self.good.items():
            for k, bits in enumerate((1, 1, 8, 8, 64, 64)):
                content = np.frombuffer(good.read_bytes(), np.uint8).copy()
                places = self.rng.integers(0, len(content), bits)
                content[places] ^= (1 << self.rng.integers(0, 8, bits)).astype(np.uint8)
                yield self.put("bits flipped", f"flip{bits}_{k}_{name}", content.tobytes(), good)

    def zeroed(self) -> Iterator[Case]:
        for name, good in self.good.items():
            content = good.read_bytes()
            for what, part in (("head8", slice(0, 8)), ("head512", slice(0, 512)), ("tail512", slice(-512, None))):
                zeroed = bytearray(content)
                zeroed[part] = bytes(len(zeroed[part]))
                yield self.put("headers zeroed", f"{what}_{name}", bytes(zeroed), good)

    def misnamed(self) -> Iterator[Case]:
        group = "wrong extension"
        for name, other in (("front.mp4", "wav"), ("sound.wav", "mp4"), ("film.mkv", "mp3"), ("sound.flac", "avi")):
            case = self.put(group, f"really_{name}.{other}", self.good[name].read_bytes(), self.good[name])
            yield replace(case, must_read=True)
        secret = self.good["sound.wav"]
        with av.open(str(self.folder.parent / "good" / "picture.png"), "w", format="image2") as container:
            stream = container.add_stream("png")
            stream.width, stream.height, stream.pix_fmt = 256, 144, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_pictures()[0], format="rgb24")))
        contents = {
            "text.mp4": b"This is no video.\n" * 500,
            "page.mkv": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
            "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n".encode(),
            "concat.wav": f"ffconcat version 1.0\nfile '{secret}'\n".encode() * 3,
            "picture.mp4": (self.folder.parent / "good" / "picture.png").read_bytes(),
            "zip.webm": b"PK\x03\x04" + self.rng.bytes(4000),
        }
        for name, content in contents.items():
            yield self.put(group, name, content)

    def nothing(self) -> Iterator[Case]:
        for suffix in ("mp4", "wav"):
            yield self.put("zero bytes, noise", f"empty.{suffix}", b"")
            yield self.put("zero bytes, noise", f"zeros.{suffix}", bytes(1 << 18))
            yield self.put("zero bytes, noise", f"noise.{suffix}", self.rng.bytes(1 << 18))

    def _patched(self, group: str, name: str, good: Path, patches: list[tuple[bytes, int, bytes]]) -> Case:
        """Put bytes at an offset behind each mark."""
        content = bytearray(good.read_bytes())
        for mark, offset, patch in patches:
            assert mark in content, (name, mark)
            at = content.index(mark)
            while at >= 0:
                content[at + offset : at + offset + len(patch)] = patch
                at = content.find(mark, at + offset + len(patch))
        return self.put(group, name, bytes(content), good)

    def too_large(self) -> Iterator[Case]:
        group, good = "huge declared dimensions", self.folder.parent / "good"
        vp8 = encode(good / "vp8.webm", "libvpx", "libopus")
        mjpeg = encode(good / "mjpeg.avi", "mjpeg", "mp3", pix_fmt="yuvj420p")
        huge = b"\xff\xf0\xff\xf0"
        yield self._patched(group, "huge.mp4", self.good["front.mp4"], [(b"avc1\0", 28, huge)])
        yield Case(group, encode(self.folder / "huge_width.mkv", "ffv1", None, width=8208), None)
        yield self._patched(group, "huge.mkv", self.good["film.mkv"], [(b"\xb0\x82\x01\x00", 2, b"\xff\xff")])
        yield self._patched(group, "huge_vp8.webm", vp8, [(b"\x9d\x01\x2a", 3, b"\xff\x3f\xff\x3f")])
        yield self._patched(group, "huge_mjpeg.avi", mjpeg, [(b"\xff\xc0\x00\x11\x08", 5, huge)])
        yield self._patched(
            group, "huge.avi", self.good["film.avi"], [(b"strf", 12, struct.pack("<ii", 1 << 16, 1 << 16))]
        )

    def too_long(self) -> Iterator[Case]:
        group = "huge declared durations"
        many = b"\x7f\xff\xff\xf0"
        mp4 = [(b"mvhd", 20, many), (b"mdhd", 20, many), (b"tkhd", 24, many)]
        yield self._patched(group, "long_front.mp4", self.good["front.mp4"], mp4)
        yield self._patched(group, "long_movie_only.mp4", self.good["end.mp4"], mp4[:1])
        yield self._patched(group, "long.mkv", self.good["film.mkv"], [(b"\x44\x89\x88", 3, struct.pack(">d", 1e14))])
        yield self._patched(group, "long.webm", self.good["film.webm"], [(b"\x44\x89\x88", 3, struct.pack(">d", 1e9))])
        yield self._patched(group, "long.wav", self.good["sound.wav"], [(b"data", 4, b"\xff\xff\xff\xff")])
        yield self._patched(group, "long.flac", self.good["sound.flac"], [(b"fLaC", 22, b"\xff\xff\xff\xff")])
        avi = [(b"avih", 24, many[::-1]), (b"strh", 40, many[::-1])]
        yield self._patched(group, "long.avi", self.good["film.avi"], avi)

    def without_key_frame(self) -> Iterator[Case]:
        for suffix in ("mp4", "mkv", "ts"):
            source = encode(self.folder.parent / "good" / f"one_key.{suffix}", gop=1000)
            path = self.folder / f"no_key.{suffix}"
            with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
                streams = {s.index: writer.add_stream_from_template(s) for s in reader.streams}
                for packet in reader.demux():
                    if packet.dts is not None and not (packet.stream.type == "video" and packet.is_keyframe):
                        packet.stream = streams[packet.stream.index]
                        writer.mux(packet)
            yield Case("no key frame", path, source)

    def strange(self) -> Iterator[Case]:
        """Good files that are not of the usual sort."""

        def made(group: str, name: str, like: str = "front.mp4", **how: Any) -> Case:
            path = encode(self.folder / name, **how)
            times_s = [t + 0.02 for t in how["times_s"]] if "times_s" in how else TIMES_S
            return Case(group, path, self.good[like], times_s, must_read=True)

        steps_s = self.rng.choice([0.04, 0.08, 0.16, 0.24], FPS * SECONDS)
        starts_s = [float(t) for t in (np.cumsum(steps_s) - steps_s[0]) * (2.9 / np.sum(steps_s))]
        yield made("variable frame rate", "vfr.mp4", times_s=starts_s)
        yield made("variable frame rate", "vfr.mkv", "film.mkv", times_s=starts_s)
        early: dict[str, Any] = {"shift_s": -0.5, "options": {"avoid_negative_ts": "disabled"}}
        case = made("negative start", "negative.mp4", **early)  # what comes before zero is not shown
        yield replace(case, times_s=TIMES_S[: -FPS // 2], begins_s=0.5)
        case = made("negative start", "negative.mkv", "film.mkv", **early)  # the encoder's 64 ms of lead-in are heard
        yield replace(case, times_s=[time_s + 0.03 for time_s in TIMES_S], begins_s=-0.064)
        yield made("5.1 sound", "surround.mka", "sound.flac", video=None, audio="pcm_s24le", channels=6)
        yield made("5.1 sound", "surround.wav", "sound.wav", video=None, audio="pcm_s16le", channels=6)
        yield made("5.1 sound", "surround.flac", "sound.flac", video=None, audio="flac", channels=6)
        yield made("10-bit video", "ten.mp4", pix_fmt="yuv420p10le")
        yield made("10-bit video", "ten.mkv", "film.mkv", video="ffv1", pix_fmt="yuv420p10le")
        yield made("several streams", "several.mp4", tracks=2)
        for turns, matrix in ((3, (0, 1, -1, 0)), (2, (-1, 0, 0, -1)), (1, (0, -1, 1, 0))):
            case = replace(made("rotated video", f"turned{turns}.mp4"), turns=turns)
            content = bytearray(case.path.read_bytes())
            at = content.index(b"tkhd") + 44
            a, b, c, d = (value << 16 for value in matrix)
            content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
            case.path.write_bytes(content)
            yield case

    def named(self) -> Iterator[Case]:
        good = self.good["front.mp4"]
        for name in (
            "with  spaces and 'quotes\".mp4",
            "ünï_名前_🎬.mp4",
            "-y.mp4",
            "http:evil.mp4",
            "frame%03d.mp4",
            os.fsdecode(b"not_utf8_\xff.mp4"),
        ):
            case = self.put("strange names", name, good.read_bytes(), good)
            yield replace(case, must_read=True)

    def linked(self) -> Iterator[Case]:
        outside, files = self.good["front.mp4"], self.folder
        targets = {"outside": outside, "dangling": files / "nowhere.mp4", "itself": files / "link_itself.mp4"}
        for name, target in (targets | {"device": Path("/dev/zero")}).items():
            link = files / f"link_{name}.mp4"
            link.symlink_to(target)
            yield Case("links, pipes", link, outside if name == "outside" else None, must_read=name == "outside")
        os.mkfifo(files / "pipe.mp4")
        yield Case("links, pipes", files / "pipe.mp4", None)


def make(folder: Path) -> list[Case]:
    """Write the files into ``files`` of a folder, and the good ones that they were made from into ``good``."""
    shutil.rmtree(folder, ignore_errors=True)
    maker = _Maker(folder)
    steps: list[Callable[[], Iterator[Case]]] = [
        maker.truncated,
        maker.flipped,
        maker.zeroed,
        maker.misnamed,
        maker.nothing,
        maker.too_large,
        maker.too_long,
        maker.without_key_frame,
        maker.strange,
        maker.named,
        maker.linked,
    ]
    return [case for step in steps for case in step()]


def save(folder: Path) -> None:
    """Make the files, for ``made``."""
    cases = make(folder)
    (folder / "cases.pickle").write_bytes(pickle.dumps(cases))


def made(folder: Path) -> list[Case]:
    """The cases that ``save`` made in a folder."""
    cases: list[Case] = pickle.loads((folder / "cases.pickle").read_bytes())
    return cases


if __name__ == "__main__":
    import hostile  # by its name, under which the cases can be read again

    hostile.save(Path(sys.argv[1]))
