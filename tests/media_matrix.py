"""Good media files of every kind, made by the ``ffmpeg`` command, and whether they are read as ``ffmpeg`` reads them.

PYTHONPATH=tests python tests/media_matrix.py FOLDER
"""

from __future__ import annotations

import collections
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from media import frames_of

from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import MediaError

SECONDS: Final = 6.0
RATE: Final = 16000
FPS: Final = 20
"""Frames a second at which what is shown is compared: twice those of the files."""

SIZE: Final = (176, 144)
"""Width and height of the frames: H.263 knows few."""

SAME, OTHER, REFUSED, COMPLAINS = "as ffmpeg reads it", "read otherwise", "refused", "ffmpeg complains"

_AUDIO: Final = "aevalsrc=0.4*sin(2*PI*(200*t+60*t*t))|0.2*sin(2*PI*(300*t+45*t*t)):d={seconds}:s={rate}"
_VIDEO: Final = (
    "nullsrc=s=32x24:r=10:d={seconds},format=yuv420p,geq=lum='30+mod(37*N,150)+X+Y':cb=128:cr=128,"
    f"scale={SIZE[0]}:{SIZE[1]},setsar=1"
)
_MEAN: Final = {1: "c0", 2: "0.5*c0+0.5*c1", 6: "+".join(f"{1 / 6:.6f}*c{k}" for k in range(6))}

_X264: Final = "libx264 -preset ultrafast -g 10 -bf 0"
_B_FRAMES: Final = "libx264 -preset superfast -g 15 -bf 2"
_VP8: Final = "libvpx -deadline realtime -cpu-used 8 -g 10"
_VP9: Final = "libvpx-vp9 -deadline realtime -cpu-used 8 -g 10"

SOURCES: Final[dict[str, tuple[str, str]]] = {
    # file name: (video codec, audio codec)
    "s16.wav": ("", "pcm_s16le"),
    "adpcm.wav": ("", "adpcm_ms"),
    "big.aiff": ("", "pcm_s16be"),
    "little.aifc": ("", "pcm_s16le -f aiff"),
    "s16.caf": ("", "pcm_s16le"),
    "alac.caf": ("", "alac"),
    "s16.w64": ("", "pcm_s16le"),
    "plain.wv": ("", "wavpack"),
    "plain.tta": ("", "tta"),
    "plain.flac": ("", "flac"),
    "plain.mp3": ("", "libmp3lame"),
    "untagged.mp3": ("", "libmp3lame -write_xing 0 -id3v2_version 0"),
    "plain.mp2": ("", "mp2"),
    "plain.aac": ("", "aac"),
    "plain.ac3": ("", "ac3"),
    "plain.a52": ("", "ac3 -f ac3"),
    "plain.eac3": ("", "eac3"),
    "plain.dts": ("", "dca -strict -2"),
    "aac.m4a": ("", "aac"),
    "alac.m4a": ("", "alac"),
    "vorbis.mka": ("", "libvorbis"),
    "ac3.mka": ("", "ac3"),
    "opus.weba": ("", "libopus -f webm"),
    "vorbis.ogg": ("", "libvorbis"),
    "flac.oga": ("", "flac"),
    "plain.opus": ("", "libopus"),
    "plain.spx": ("", "libspeex -ar 32000"),
    "wma2.wma": ("", "wmav2"),
    "h264_aac.mp4": (_X264, "aac"),
    "b_frames.mp4": (_B_FRAMES, "aac"),
    "mpeg4_ac3.mp4": ("mpeg4", "ac3"),
    "opus.mp4": (_X264, "libopus"),
    "fragments.mp4": (_X264, "aac -movflags frag_keyframe+empty_moov"),
    "h264_pcm.mov": (_X264, "pcm_s16le"),
    "mjpeg_pcm.qt": ("mjpeg -pix_fmt yuvj420p", "pcm_s16le -f mov"),
    "h264_aac.mkv": (_X264, "aac"),
    "b_frames.mkv": (_B_FRAMES, "aac"),
    "h264_flac.mkv": (_X264, "flac"),
    "mpeg4_mp3.mkv": ("mpeg4", "libmp3lame"),
    "vp9_opus.mkv": (_VP9, "libopus"),
    "vp8_vorbis.webm": (_VP8, "libvorbis"),
    "vp9_opus.webm": (_VP9, "libopus"),
    "live.webm": (_VP8, "libopus -live 1"),
    "h264_aac.ts": (_X264, "aac"),
    "b_frames.ts": (_B_FRAMES, "aac"),
    "mpeg2_mp2.ts": ("mpeg2video -r 25", "mp2"),
    "h264_ac3.m2ts": (_X264, "ac3"),
    "mpeg4_mp3.avi": ("mpeg4", "libmp3lame"),
    "mjpeg_pcm.avi": ("mjpeg -pix_fmt yuvj420p", "pcm_s16le"),
    "mpeg4_ac3.avi": ("mpeg4", "ac3"),
    "h264_aac.flv": (_X264, "aac"),
    "b_frames.flv": (_B_FRAMES, "aac"),
    "flv1_mp3.flv": ("flv", "libmp3lame"),
    "theora_vorbis.ogv": ("libtheora -q:v 8 -g 10", "libvorbis"),
    "h263_aac.3gpp": ("h263", "aac -f 3gp"),
    "wmv2_wma2.asf": ("wmv2", "wmav2"),
    "mpeg1_mp2.mpg": ("mpeg1video -r 25", "mp2"),
    "mpeg2_ac3.vob": ("mpeg2video -r 25", "ac3"),
    "mpeg4_mp2.nut": ("mpeg4", "mp2"),
}

_CHANGES: Final = {
    "mp3": "libmp3lame -write_xing 0 -id3v2_version 0",
    "aac": "aac",
    "ac3": "ac3",
    "eac3": "eac3",
    "mka": "ac3",
}
"""Endings in which parts of other layouts and rates can be joined, and their codecs."""

Audio = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Good:
    """A file to read.

    Args:
        path: The file.
        group: What was done to it.
        parts: Files whose decoded audio, one after the other, is that of this one, where ``ffmpeg`` mixes channels
            differently in them; empty: it is what ``ffmpeg`` decodes from the file itself.
    """

    path: Path
    group: str
    parts: tuple[Path, ...] = ()


class NotMadeError(Exception):
    """FFmpeg cannot write such a file."""


def ffmpeg(*args: str | Path) -> tuple[bytes, str]:
    """Run the command; gives what it wrote to stdout, and its errors."""
    command = ["ffmpeg", "-nostdin", "-y", "-v", "error", "-threads", "1", *map(str, args)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    if done.returncode:
        raise NotMadeError(done.stderr.decode(errors="replace")[-300:])
    return done.stdout, done.stderr.decode(errors="replace")


def source(path: Path, *, seconds: float = SECONDS, rate: int = 44100, channels: int = 2) -> Path:
    """A file of the name of one of ``SOURCES``, or with an ending of ``_CHANGES``: a chirp under flickering frames."""
    video, audio = SOURCES.get(path.name) or ("", _CHANGES[path.suffix[1:]])
    inputs: list[str | Path] = ["-f", "lavfi", "-i", _AUDIO.format(seconds=seconds, rate=rate)]
    if video:
        inputs += ["-f", "lavfi", "-i", _VIDEO.format(seconds=seconds), "-c:v", *video.split()]
        inputs += ["-b:v", "400k"] if "x264" not in video else ["-crf", "18"]
    fixed_rate = ["-ar", "48000"] if "opus" in audio else []
    ffmpeg(*inputs, *fixed_rate, "-ac", str(channels), "-c:a", *audio.split(), "-fflags", "+bitexact", path)
    return path


def copy(given: Path, path: Path, *options: str, before: Iterable[str] = ()) -> Path:
    """A copy without decoding, with options before and after the input's name."""
    name = SOURCES[given.name][1].split() if given.name in SOURCES else []
    muxer = name[name.index("-f") :][:2] if "-f" in name else []
    flags = name[name.index("-movflags") :][:2] if "-movflags" in name else []
    ffmpeg(*before, "-i", given, *options, "-c", "copy", *muxer, *flags, path)
    return path


def _segment(given: Path, path: Path) -> Path:
    pattern = path.with_name(f"%d_{path.name}")
    ffmpeg("-i", given, "-c", "copy", "-f", "segment", "-segment_time", "2", *_segment_format(given), pattern)
    return path.with_name(f"1_{path.name}")


def _segment_format(given: Path) -> list[str]:
    return ["-segment_format", "webm"] if given.suffix == ".weba" else []


def _early(given: Path, path: Path, kind: str) -> Path:
    """Audio or video ends after 3.3 s."""
    ends = {"a": ("0:v", "1:a"), "v": ("1:v", "0:a")}[kind]
    return copy(given, path, "-map", ends[0], "-map", ends[1], before=["-i", str(given), "-t", "3.3"])


def _late(given: Path, path: Path, kind: str) -> Path:
    """Audio or video begins 1.2 s later."""
    maps = {"a": ("0:v", "1:a"), "v": ("1:v", "0:a")}[kind]
    return copy(given, path, "-map", maps[0], "-map", maps[1], before=["-i", str(given), "-itsoffset", "1.2"])


def _joined(given: Path, path: Path, pause_s: float | None = None) -> Path:
    """The file twice, with or without a pause between."""
    listed = f"file '{given}'\n" + (f"duration {SECONDS + pause_s}\n" if pause_s else "")
    script = path.with_name(f"{path.name}.txt")
    script.write_text(f"ffconcat version 1.0\n{listed}file '{given}'\n")
    before = ["-f", "concat", "-safe", "0"]
    muxer = SOURCES[given.name][1].split()
    muxer = muxer[muxer.index("-f") :][:2] if "-f" in muxer else []
    ffmpeg(*before, "-i", script, "-map", "0", "-c", "copy", *muxer, path)
    return path


_UNSTAMPED: Final = (".wav .aiff .aifc .caf .w64 .wv .tta .flac .oga .mp3 .mp2 .aac .ac3 .a52 .eac3 .dts").split()
"""Endings of formats without time stamps: where packets are left out, there is no pause but a shorter recording."""

_PAUSES: Final = ("packets of audio left out", "pauses", "joined with a pause")

_VIDEO_ONLY: Final = ("audio ends early", "video ends early", "audio begins late", "video begins late")

TREATMENTS: Final[dict[str, Callable[[Path, Path], Path]]] = {
    "plain": lambda given, _: given,
    "cut at the start": lambda given, path: copy(given, path, before=["-ss", "2.13"]),
    "cut after reading": lambda given, path: copy(given, path, "-ss", "2.13"),
    "cut in the middle": lambda given, path: copy(given, path, "-t", "2.4", before=["-ss", "1.57"]),
    "cut at the end": lambda given, path: copy(given, path, "-t", "3.3"),
    "second segment": _segment,
    "time stamps from 1000 s": lambda given, path: copy(given, path, "-output_ts_offset", "1000"),
    "time stamps kept": lambda given, path: copy(given, path, "-copyts", before=["-ss", "2.13"]),
    "packets of audio left out": lambda given, path: copy(given, path, "-bsf:a", "noise=drop=between(n\\,60\\,80)"),
    "pauses": lambda given, path: copy(
        given, path, "-bsf:a", "noise=drop=gte(n\\,40)*lt(mod(n\\,20)\\,14)*lt(n\\,140)"
    ),
    "joined": _joined,
    "joined with a pause": lambda given, path: _joined(given, path, 0.4),
    "audio ends early": lambda given, path: _early(given, path, "a"),
    "video ends early": lambda given, path: _early(given, path, "v"),
    "audio begins late": lambda given, path: _late(given, path, "a"),
    "video begins late": lambda given, path: _late(given, path, "v"),
}


def make(folder: Path, names: Iterable[str] = SOURCES, treatments: Iterable[str] = TREATMENTS) -> list[Good]:
    """Write the files; those that ``ffmpeg`` has no way to write are left out."""
    (folder / "source").mkdir(parents=True, exist_ok=True)

    def of_name(name: str) -> list[Good]:
        given = folder / "source" / name
        source(given)
        made = []
        for group in treatments:
            path = folder / f"{group.replace(' ', '_')}_{name}"
            if group in _VIDEO_ONLY and not SOURCES[name][0] or group in _PAUSES and given.suffix in _UNSTAMPED:
                continue
            try:
                path = TREATMENTS[group](given, path)
            except NotMadeError:
                continue
            made.append(Good(path, group))
        return made

    with ThreadPoolExecutor(2) as pool:
        return [good for found in pool.map(of_name, list(names)) for good in found]


def make_changes(folder: Path, endings: Iterable[str] = tuple(_CHANGES)) -> list[Good]:
    """Files whose number of channels or sample rate changes in the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    parts = {"mono": (44100, 1), "stereo": (44100, 2), "six": (44100, 6), "slow": (32000, 2)}
    for ending in endings:
        files: dict[str, Path] = {}
        for part, (rate, channels) in parts.items():
            try:
                files[part] = source(folder / f"{part}.{ending}", seconds=2.0, rate=rate, channels=channels)
            except NotMadeError:
                continue
        orders = [
            ("mono", "stereo"),
            ("stereo", "mono"),
            ("stereo", "six"),
            ("six", "stereo"),
            ("stereo", "slow"),
            ("slow", "stereo"),
        ]
        for order in [order for order in orders if set(order) <= set(files)]:
            path = folder / f"{'_'.join(order)}.{ending}"
            given = tuple(files[part] for part in order)
            if ending == "mka":
                script = folder / f"{path.name}.txt"
                script.write_text("ffconcat version 1.0\n" + "".join(f"file '{part}'\n" for part in given))
                ffmpeg("-f", "concat", "-safe", "0", "-i", script, "-c", "copy", path)
            else:
                path.write_bytes(b"".join(part.read_bytes() for part in given))
            group = "sample rate changes" if "slow" in order else "layout changes"
            made.append(Good(path, group, given))
    return made


def reference(path: Path) -> tuple[Audio, Frames, str]:
    """What ``ffmpeg`` decodes from the start on: the mean of the channels, ``FPS`` frames a second, complaints."""
    with av.open(str(path)) as container:
        channels = [stream.channels for stream in container.streams.audio]
        has_video = bool(container.streams.video)
    audio_read, frames_read = np.zeros(0, np.float32), np.zeros(0, np.uint8)
    outputs: list[str | Path] = []
    with tempfile.TemporaryDirectory() as folder:
        audio, video = Path(folder, "audio"), Path(folder, "video")
        if channels:
            mean = _MEAN[channels[0]]
            stamps = "" if path.suffix in _UNSTAMPED else ":async=1:min_hard_comp=0.03:first_pts=0"
            chain = f"pan=mono|c0={mean},aresample={RATE}{stamps}"
            outputs += ["-map", "0:a:0", "-af", chain, "-f", "f32le", audio]
        if has_video:
            chain = f"fps={FPS}:start_time=0,scale=44:36"
            outputs += ["-map", "0:v:0", "-vf", chain, "-pix_fmt", "rgb24", "-f", "rawvideo", video]
        try:
            _, errors = ffmpeg("-i", path, *outputs)
        except NotMadeError as error:
            errors = str(error)
        if audio.exists():
            audio_read = np.fromfile(audio, np.float32)
        if video.exists():
            frames_read = np.fromfile(video, np.uint8)
    return audio_read, frames_read.reshape(-1, 36, 44, 3), errors


def compare_audio(mine: Audio, reference: Audio) -> str:
    """How read audio differs from the reference; empty if it is the same.

    Both have the same length to 0.1 s, are shifted by at most 30 ms, and in 95 of 100 tenths of a second the difference
    is below a quarter of the reference's level.
    """
    if abs(len(mine) - len(reference)) > 0.1 * RATE:
        return f"{len(mine) / RATE:.2f} s of audio, not {len(reference) / RATE:.2f} s"
    length = min(len(mine), len(reference))
    mine, reference = mine[:length], reference[:length]
    size = 1 << (2 * length).bit_length()
    spectrum = np.fft.rfft(mine, size) * np.fft.rfft(reference, size).conj()
    shift = int(np.fft.irfft(spectrum, size).argmax())
    shift = shift - size if shift > size // 2 else shift
    if abs(shift) > 0.03 * RATE:
        return f"audio {1000 * shift / RATE:.0f} ms late"
    mine, reference = mine[max(0, shift) :], reference[max(0, -shift) :]
    blocks = min(len(mine), len(reference)) // 1600
    a, b = (x[: blocks * 1600].reshape(blocks, 1600) for x in (mine, reference))
    level = max(1e-3, float(np.sqrt(np.mean(reference**2))))
    differs = np.sqrt(np.mean((a - b) ** 2, axis=1)) > 0.25 * level
    if np.mean(differs) > 0.05:
        return f"other audio at {', '.join(f'{k / 10:.1f}' for k in np.flatnonzero(differs)[:8])} s"
    return ""


def compare_frames(path: Path, reference: Frames) -> str:
    """How read frames differ by more than 6 % from the reference, in which the frame before or after may be it."""
    times_s = [(k + 0.5) / FPS for k in range(0, len(reference), 3)]
    with MediaFile(path) as media:
        shown_s = media.info.shown_s
        assert shown_s is not None
        if shown_s[1] < len(reference) / FPS - 0.25:
            return f"{shown_s[1]:.2f} s of video, not {len(reference) / FPS:.2f} s"
        frames = frames_of(media, [t for t in times_s if t < shown_s[1]], short_side=36)
    coarse = _coarse(reference)
    for k, frame in zip(range(0, len(reference), 3), _coarse(frames), strict=False):
        if np.abs(coarse[max(0, k - 2) : k + 3] - frame).mean(axis=(1, 2, 3)).min() > 0.06 * 255:
            return f"another frame at {k / FPS:.2f} s"
    return ""


def _coarse(frames: Frames) -> npt.NDArray[np.float64]:
    """Means of 4 x 4 parts, of frames of any size."""
    rows = [np.mean(part, axis=1) for part in np.array_split(frames, 4, axis=1)]
    return np.stack([np.stack([np.mean(p, axis=1) for p in np.array_split(row, 4, axis=1)], 1) for row in rows], 1)


def outcome(good: Good) -> tuple[str, str]:
    """What came of a file, and the detail."""
    audio, frames, errors = reference(good.path)
    parts = [reference(part)[0] for part in good.parts] or [audio]
    audio = np.concatenate(parts)
    detail = []
    try:
        with MediaFile(good.path) as media:
            info = media.info
            if len(audio):
                mine = media.audio(0.0, info.duration_s + 1.0, RATE).astype(np.float32) / 32768
                begins = np.cumsum([0, *map(len, parts)])
                pieces = [mine[begin : begin + len(part)] for begin, part in zip(begins, parts, strict=False)]
                detail += map(compare_audio, pieces if good.parts else [mine], parts)
        length_s = max(len(audio) / RATE, len(frames) / FPS)
        if abs(info.duration_s - length_s) > 0.25:
            detail.append(f"{info.duration_s:.2f} s, not {length_s:.2f} s")
        if len(frames):
            detail.append(compare_frames(good.path, frames))
    except MediaError as error:
        return REFUSED if not errors else COMPLAINS, error.detail
    found = "; ".join(filter(None, detail))
    if found and errors:
        return COMPLAINS, found
    return (OTHER if found else SAME), found


def table(goods: list[Good], outcomes: list[tuple[str, str]]) -> str:
    """One row a treatment, one column an outcome."""
    columns = [SAME, REFUSED, OTHER, COMPLAINS]
    counts = collections.Counter((good.group, what) for good, (what, _) in zip(goods, outcomes, strict=True))
    rows = [["", "files", *columns], ["---"] * (len(columns) + 2)]
    for group in dict.fromkeys(good.group for good in goods):
        numbers = [counts[group, column] for column in columns]
        rows.append([group, str(sum(numbers)), *(str(n or "") for n in numbers)])
    totals = [sum(what == column for what, _ in outcomes) for column in columns]
    rows.append(["together", str(len(goods)), *map(str, totals)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(folder: Path) -> None:
    if shutil.which("ffmpeg") is None:
        raise SystemExit("the ffmpeg command is not installed")
    goods = make(folder) + make_changes(folder / "changes")
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, goods))
    for good, (what, detail) in zip(goods, outcomes, strict=True):
        if what != SAME:
            print(good.path.name, what, detail, sep="\t")
    print(f"\n{table(goods, outcomes)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
