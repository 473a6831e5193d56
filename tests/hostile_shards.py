"""Damaged and hostile folders of shards by the hundred, made from a good one with fixed seeds, and what each gives.

Each is read by a process of its own, with a limit of time and of memory, as a run reads it: a data module's set-up, an
epoch of all clips and one of training. What it gives is compared with the good folder, clip by clip.

PYTHONPATH=tests python tests/hostile_shards.py FOLDER
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import torch
from media import write_clip
from shards import write_shards
from torchvision.io import encode_jpeg, encode_png

from diffmavil.cli import _is_for_the_user, one_line
from diffmavil.data import ClipDataModule, ManifestSource, ShardSource
from diffmavil.data.json_files import sealed, unsealed
from diffmavil.data.shards.columns import ARRAYS
from diffmavil.data.shards.encode import EncodedClip
from diffmavil.data.shards.index import write_index
from diffmavil.data.shards.sidecar import Sidecar
from diffmavil.data.shards.writer import ShardWriter

REFUSED, LEFT_OUT, RIGHT = "refused in one line", "clips left out, named", "read right"
WRONG, TRACEBACK, HANG, CRASH, EXECUTED = (
    "taken silently wrong",
    "traceback",
    "hang",
    "crash",
    "executed or wrote outside",
)
OUTCOMES: Final = (REFUSED, LEFT_OUT, RIGHT, WRONG, TRACEBACK, HANG, CRASH, EXECUTED)
CLIPS: Final = 6
TIMEOUT_S: Final = 20.0
MEMORY_BYTES: Final = 2**31

Damage = Callable[[Path, np.random.Generator], None]


@dataclass(frozen=True)
class Case:
    """A folder of shards that something is done to.

    Args:
        kind: What, for the table.
        name: Which of them.
        damage: Does it.
        seed: What is random in it.
    """

    kind: str
    name: str
    damage: Damage
    seed: int = 0


# --- the good folder, and getting at its parts ---


def make_good(folder: Path) -> Path:
    """Six clips of three classes in three shards."""
    for k in range(CLIPS):
        write_clip(folder / "films" / f"{k}.mp4", seconds=1.0, hz=300 + 50 * k, size=(48, 32))
    rows = [f"{k}.mp4,{'siren dog saw'.split()[k % 3]},{'test' if k == 4 else 'train'}" for k in range(CLIPS)]
    (folder / "films" / "clips.csv").write_text("\n".join(["path,label,split", *rows, ""]))
    source = ManifestSource(path=folder / "films" / "clips.csv", label_column="label")
    return write_shards(source, folder / "good", clips_per_shard=2)


def names_of(root: Path) -> dict[str, Any]:
    return unsealed(json.loads((root / "index" / "names.json").read_text()))


def write_names(root: Path, names: dict[str, Any]) -> None:
    """Write ``names.json`` with sizes and checksums of the arrays as they are, but for those that were meddled with."""
    (root / "index" / "names.json").write_text(json.dumps(sealed(names), indent=1))


def reseal(root: Path) -> None:
    """Make all checksums right, as somebody would who wants to be believed."""
    names = names_of(root)
    files = {name: (root / "index" / f"{name}.npy").read_bytes() for name in ARRAYS}
    names["array_bytes"] = {name: len(data) for name, data in files.items()}
    names["array_crc32"] = {name: zlib.crc32(data) for name, data in files.items()}
    write_names(root, names)


def array_of(root: Path, name: str) -> np.ndarray:
    return np.load(root / "index" / f"{name}.npy")


def put(root: Path, name: str, values: np.ndarray | bytes) -> None:
    """Put an array, or any bytes, into the place of one, with the right checksums."""
    path = root / "index" / f"{name}.npy"
    if isinstance(values, bytes):
        path.write_bytes(values)
    else:
        np.save(path, values)
    reseal(root)


# --- damages ---


def flip(file: str) -> Damage:
    def damage(root: Path, rng: np.random.Generator) -> None:
        path = root / file
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)

    return damage


def cut(file: str) -> Damage:
    def damage(root: Path, rng: np.random.Generator) -> None:
        os.truncate(root / file, int(rng.integers((root / file).stat().st_size)))

    return damage


def row(field: str, value: Any, at: int = 2) -> Damage:
    """A value in a row of clips."""

    def damage(root: Path, rng: np.random.Generator) -> None:
        rows = array_of(root, "clips")
        rows[field][at] = value
        put(root, "clips", rows)

    return damage


def entry(name: str, field: str | None, value: Any) -> Damage:
    """A value in another array."""

    def damage(root: Path, rng: np.random.Generator) -> None:
        values = array_of(root, name)
        (values if field is None else values[field])[1] = value
        put(root, name, values)

    return damage


def array(name: str, change: Callable[[np.ndarray], np.ndarray | bytes]) -> Damage:
    def damage(root: Path, rng: np.random.Generator) -> None:
        put(root, name, change(array_of(root, name)))

    return damage


def names(path: str, value: Any) -> Damage:
    """A value in names.json, with the right checksum; ``...`` removes it."""

    def damage(root: Path, rng: np.random.Generator) -> None:
        content = names_of(root)
        *parents, last = path.split(".")
        inner = content
        for parent in parents:
            inner = inner[parent]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
        write_names(root, content)

    return damage


def text(file: str, data: bytes) -> Damage:
    def damage(root: Path, rng: np.random.Generator) -> None:
        (root / file).write_bytes(data)

    return damage


def special(file: str, make: Callable[[Path], object]) -> Damage:
    """Something that is no file in a file's place."""

    def damage(root: Path, rng: np.random.Generator) -> None:
        (root / file).unlink()
        make(root / file)

    return damage


def _socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as end:  # names of sockets are short
        end.bind(path.name)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)


SPECIAL: Final[dict[str, Callable[[Path], object]]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "64 GiB of nothing": _sparse,
}


class Executes:
    """Says so by making a file, when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)  # where the reader works


def header(text: str) -> bytes:
    """A .npy file with a header of one's own."""
    body = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(4096)


def _npz(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, values)
    return file.getvalue()


def _pickled(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Executes()], object), allow_pickle=True)
    return file.getvalue()


def _zipped_pickle(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Executes()))
    return file.getvalue()


FORMS: Final[dict[str, Callable[[np.ndarray], np.ndarray | bytes]]] = {
    "two axes": lambda values: values[None],
    "no axis": lambda values: values[0],
    "floats": lambda values: np.zeros(len(values)),
    "64 bit": lambda values: np.zeros(len(values), "i8"),
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "text": lambda values: np.full(len(values), "x"),
    "other fields": lambda values: np.zeros(len(values), [("a", "i4")]),
    "one less": lambda values: values[:-1],
    "one more": lambda values: np.concatenate([values, values[-1:]]),
    "none": lambda values: values[:0],
    "npz": _npz,
    "pickled": _pickled,
    "zip with a pickle": _zipped_pickle,
    "bare pickle": lambda values: pickle.dumps(Executes()),
    "code in the header": lambda values: header("__import__('os').mkdir('executed')"),
    "code as its type": lambda values: header(
        "{'descr': __import__('os').mkdir('executed'), 'fortran_order': False, 'shape': (3,), }"
    ),
    "deep header": lambda values: header("(" * 9000),
    "header of signs": lambda values: header("-" * 9000 + "1"),
    "huge shape": lambda values: header("{'descr': '<i4', 'fortran_order': False, 'shape': (4611686018427387904,), }"),
    "negative shape": lambda values: header("{'descr': '<i4', 'fortran_order': False, 'shape': (-1,), }"),
    "nothing": lambda values: b"",
}

ROWS: Final[dict[str, tuple[Any, ...]]] = {
    "split": (99, 3, -1, -128),
    "shard": (7, -2, 2, 2**31 - 1),
    "position": (-1, 0, 2**62),
    "offset": (-1, -512, 512, 1, 2**62, -(2**62)),
    "json_size": (0, 1, 2**32 - 1),
    "flac_size": (0, 1, 2**31, 2**32 - 1),
    "first_frame": (-1, 0, 1, 2**62, -(2**62)),
    "num_frames": (0, 1, 3, 2**31, 2**32 - 1),
    "start_s": (-1.0, np.inf, -np.inf, 1e300, 0.5),
    "end_s": (-1.0, 0.0, np.inf, -np.inf, 0.5),
    "duration_s": (-1.0, 0.0, np.nan, np.inf, 1e300, 5.0),
    "audio_s": ((np.nan, 1.0), (0.0, np.nan), (1.0, 0.5), (-1.0, 1.0), (0.0, np.inf), (np.nan, np.nan), (0.0, 1e300)),
    "video_s": ((np.nan, 1.0), (0.0, np.nan), (1.0, 0.5), (-1.0, 1.0), (0.0, np.inf), (np.nan, np.nan), (0.0, 1e300)),
    "fold": (-2, -(2**31)),
    "path_at": (-1, 0, 2**62),
    "path_size": (0, 1, 2**32 - 1),
    "label_at": (-1, 0, 2**62),
    "num_labels": (0, 2, 2**32 - 1),
}

NAMES: Final[dict[str, tuple[Any, ...]]] = {
    "classes": (..., None, 3, "siren", [], ["siren"], [1, 2, 3], ["siren"] * 3, {"siren": 1}),
    "shard_bytes": (..., None, [], [1, 2], [-1, 0, 0], [2**70] * 3, ["x"] * 3, [[]] * 3, [1.5] * 3, [1024] * 3),
    "settings": (..., None, [], {}, "x"),
    "settings.stored": (..., None, [], {}, {"fps": 4.0, "sample_rate_hz": 16000, "other": 1}),
    "settings.stored.fps": (..., "x", None, 0, -1, float("nan"), float("inf"), 1e300, True, [4.0], 2.0),
    "settings.stored.sample_rate_hz": (..., "x", None, 0, -1, 1e9, float("nan"), [1], 8000),
    "array_bytes": (..., None, [], {}, {"clips": 1}),
    "array_bytes.clips": (..., None, -1, 2**70, "x"),
    "array_crc32": (..., None, [], {}),
    "array_crc32.clips": (..., None, -1, "x", True),
    "format_version": (..., None, 1, 2, 4, "3", [3], 10**400),
}


def _member(change: Callable[[bytearray], None]) -> Damage:
    """Change the header of a tar member: readers by name would follow it."""

    def damage(root: Path, rng: np.random.Generator) -> None:
        path = root / "shard-000001.tar"
        data = bytearray(path.read_bytes())
        block = data[:512]
        change(block)
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        path.write_bytes(block + data[512:])

    return damage


def _named(name: bytes) -> Damage:
    def change(block: bytearray) -> None:
        block[:100] = name.ljust(100, b"\0")

    return _member(change)


def _of_type(kind: bytes, link: bytes = b"/etc/passwd") -> Damage:
    def change(block: bytearray) -> None:
        block[156:157], block[157:257] = kind, link.ljust(100, b"\0")

    return _member(change)


def _swapped(root: Path, rng: np.random.Generator) -> None:
    a, b = root / "shard-000000.tar", root / "shard-000001.tar"
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)


def _appended(root: Path, rng: np.random.Generator) -> None:
    path = root / "shard-000001.tar"
    path.write_bytes(path.read_bytes() + b"more" * 1000)


def _noise(root: Path, rng: np.random.Generator) -> None:
    path = root / "shard-000001.tar"
    path.write_bytes(rng.bytes(path.stat().st_size))


def content(sound: bytes | None = None, picture: bytes | None = None) -> Damage:
    """Sound or pictures of one's own in a clip, with the right checksums everywhere."""

    def damage(root: Path, rng: np.random.Generator) -> None:
        sidecars = [json.loads(path.read_text()) for path in sorted((root / "sidecars").iterdir())]
        sidecars = [Sidecar(**unsealed(sidecar)) for sidecar in sidecars]
        old, about = (root / "shard-000001.tar").read_bytes(), names_of(root)
        writer = ShardWriter(root, 1)
        for clip in sidecars[1].clips:
            sizes = [clip["json_size"], clip["flac_size"], *clip["frame_sizes"]]
            at, members = clip["offset"], []
            for size in sizes:
                members.append(old[at + 512 : at + 512 + size])
                at += 512 + -(-size // 512) * 512
            flac, jpegs = members[1], members[2:]
            if clip is sidecars[1].clips[0]:
                flac, jpegs = sound or flac, jpegs if picture is None else [jpegs[0], picture, *jpegs[2:]]
            writer.add(clip["position"], EncodedClip(json.loads(members[0]), flac, jpegs))
        sidecars[1] = writer.finish()
        write_index(root / "index", sidecars, classes=about["classes"], settings=about["settings"])

    return damage


def _sound(form: str, *, rate: int = 16000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((16000, channels), np.int16), rate, format=form, subtype="PCM_16")
    return file.getvalue()


def _long_sound() -> bytes:
    """A FLAC file that states 2**36 - 1 samples."""
    data = bytearray(_sound("FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def _picture(height: int = 32, width: int = 48) -> bytes:
    return encode_jpeg(torch.zeros(3, height, width, dtype=torch.uint8)).numpy().tobytes()


def _stated(height: int, width: int) -> bytes:
    """A picture that states another size than it has."""
    data = _picture()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2) + width.to_bytes(2) + data[at + 4 :]


CONTENTS: Final[dict[str, Callable[[], Damage]]] = {
    "sound: wav": lambda: content(sound=_sound("WAV")),
    "sound: two channels": lambda: content(sound=_sound("FLAC", channels=2)),
    "sound: another rate": lambda: content(sound=_sound("FLAC", rate=8000)),
    "sound: 2**36 samples": lambda: content(sound=_long_sound()),
    "sound: pickle": lambda: content(sound=pickle.dumps(Executes())),
    "sound: cut": lambda: content(sound=_sound("FLAC")[:60]),
    "sound: noise": lambda: content(sound=b"fLaC" + np.random.default_rng(0).bytes(5000)),
    "picture: 65535 x 65535": lambda: content(picture=_stated(65535, 65535)),
    "picture: no height": lambda: content(picture=_stated(0, 48)),
    "picture: 8192 x 8192 stated": lambda: content(picture=_stated(8192, 8192)),
    "picture: another size": lambda: content(picture=_picture(64, 64)),
    "picture: png": lambda: content(picture=encode_png(torch.zeros(3, 8, 8, dtype=torch.uint8)).numpy().tobytes()),
    "picture: pickle": lambda: content(picture=pickle.dumps(Executes())),
    "picture: one byte": lambda: content(picture=b"\xff"),
    "picture: cut": lambda: content(picture=_picture()[:-200]),
    "picture: noise": lambda: content(picture=b"\xff\xd8" + np.random.default_rng(0).bytes(5000)),
}


def cases() -> Iterator[Case]:
    """All of them."""
    flips = {"clips": 40, "frames": 16, "labels": 12, "paths": 12}
    for name, count in flips.items():
        file = f"index/{name}.npy"
        yield from (Case("a bit flipped in the index", file, flip(file), seed) for seed in range(count))
    yield from (Case("a bit flipped in names.json", "", flip("index/names.json"), seed) for seed in range(24))
    yield from (Case("a bit flipped in a shard", "", flip("shard-000001.tar"), seed) for seed in range(24))
    for name in (*(f"index/{name}.npy" for name in ARRAYS), "index/names.json"):
        yield from (Case("index cut short", name, cut(name), seed) for seed in range(2))
    yield from (Case("shard cut short", "", cut("shard-000001.tar"), seed) for seed in range(8))
    for field, values in ROWS.items():
        yield from (Case("a number in a row, checksums right", f"{field} {v}", row(field, v)) for v in values)
    yield Case("a number in a row, checksums right", "label 99", entry("labels", None, 99))
    yield Case("a number in a row, checksums right", "label -1", entry("labels", None, -1))
    for size in (0, 2**31, 2**32 - 1):
        yield Case("a number in a row, checksums right", f"frame size {size}", entry("frames", "size", size))
    for key, values in NAMES.items():
        for value in values:
            yield Case("a value in names.json, checksum right", f"{key} {value!r:.40}", names(key, value))
    for name in ARRAYS:
        for form, change in FORMS.items():
            yield Case("an array of another form, checksums right", f"{name} {form}", array(name, change))
    yield Case("an array of another form, checksums right", "labels floats", array("labels", lambda v: v * 1.0))
    for kind, make in SPECIAL.items():
        for file in ("index/names.json", "index/clips.npy", "index/labels.npy", "shard-000001.tar"):
            yield Case("no file in a file's place", f"{file} {kind}", special(file, make))
    texts = {
        "deep": b"[" * 100000,
        "deep objects": b'{"a":' * 100000,
        "not deep enough": b"[" * 900 + b"]" * 900,
        "many lists": b"[" + b"[]," * (2**24) + b"[]]",
        "a number": b"3",
        "digits": b'{"format_version": ' + b"9" * 5000 + b"}",
        "not UTF-8": b'{"format_version": 3, "classes": ["\xff"]}',
        "nothing": b"",
        "yaml": b"format_version: 3",
    }
    for name, data in texts.items():
        yield Case("names.json of another kind", name, text("index/names.json", data))
    for name in (b"../x", b"/dev/shm/x", b"../../../../etc/x", b"x" * 100, b"\xff\xfe"):
        yield Case("tar members that lead elsewhere", str(name), _named(name))
    for kind in b"123456xgLKS":
        yield Case("tar members that lead elsewhere", f"type {chr(kind)}", _of_type(bytes([kind])))
    for name, damage in {"swapped": _swapped, "appended": _appended, "noise": _noise}.items():
        yield Case("shards swapped, longer, of noise", name, damage)
    for name, make_damage in CONTENTS.items():
        yield Case("sound and pictures of another form, checksums right", name, make_damage())


# --- reading ---

Clip = dict[str, Any]


def read(root: Path) -> tuple[dict[str, Clip], set[str]]:
    """All clips of a folder, by their paths, as a run would have them, and the paths of those that are left out."""
    data = ClipDataModule(
        source=ShardSource(root=root),
        batch_size=2,
        num_workers=0,
        clip_s=1.0,
        num_mel_bins=32,
        num_frames=4,
        fps=4.0,
        image_size=32,
        short_side=32,
        timeout_s=5.0,
    )
    data.setup("predict")
    clips: dict[str, Clip] = {}
    for k, clip in enumerate(data.clips):
        clips[f"{k} {Path(clip.path).name}"] = {
            "about": (clip.path, clip.start_s, clip.end_s, clip.split, clip.labels, clip.fold),
            "label": None,
        }
    keys, skipped = list(clips), set()
    for batch in data.predict_dataloader():
        skipped |= {keys[skip.index] for skip in batch.skips}
        frames = batch.frames.view(len(batch.index), -1) if len(batch.index) else batch.frames
        for n, index in enumerate(batch.index.tolist()):
            clips[keys[index]] |= {
                "label": data.classes[int(batch.labels[n])],
                "num_samples": int(batch.num_samples[n]),
                "num_frames": int(batch.num_frames[n]),
                "waveform": zlib.crc32(batch.waveform[n].numpy().tobytes()),
                "frames": zlib.crc32(frames[n].numpy().tobytes()),
            }
    for batch in data.train_dataloader():
        data.on_before_batch_transfer(batch, 0)
    return clips, skipped


def judge(clips: dict[str, Clip], skipped: set[str], good: dict[str, Clip]) -> str:
    """Whether what was read is as it should be."""
    if clips.keys() != good.keys():
        return WRONG
    for key, clip in clips.items():
        if key in skipped:
            if clip["about"] != good[key]["about"]:
                return WRONG
        elif clip != good[key]:
            return WRONG
    return LEFT_OUT if skipped else RIGHT


def outcome(root: Path, good: dict[str, Clip]) -> tuple[str, str]:
    """What reading a folder gives, in this process."""
    try:
        clips, skipped = read(root)
    except Exception as error:
        if _is_for_the_user(error):
            return REFUSED, one_line(error)
        return TRACEBACK, traceback.format_exc()
    return judge(clips, skipped, good), ", ".join(sorted(skipped))


def forked(root: Path, good: dict[str, Clip]) -> tuple[str, str]:
    """The same in a process of its own, which may hang or crash."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            os.chdir(root.parent)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            os.write(theirs, json.dumps(outcome(root, good)).encode()[:60000])
        finally:
            os._exit(0)
    os.close(theirs)
    end_s, answer = time.monotonic() + TIMEOUT_S, b""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
    while data := os.read(ours, 65536):
        answer += data
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.close(ours)
    if time.monotonic() > end_s:
        return HANG, ""
    if status or not answer:
        return CRASH, f"status {status}"
    what, detail = json.loads(answer)
    return what, detail


def try_case(case: Case, good_root: Path, good: dict[str, Clip], scratch: Path) -> tuple[str, str]:
    """Damage a copy of the good folder and read it."""
    place = scratch / "case"
    shutil.rmtree(place, ignore_errors=True)
    root = place / "shards"
    shutil.copytree(good_root, root)
    case.damage(root, np.random.default_rng(case.seed))
    before = sorted(str(path) for path in place.rglob("*"))
    what, detail = forked(root, good)
    if sorted(str(path) for path in place.rglob("*")) != before:
        return EXECUTED, detail
    return what, detail


def table(done: list[tuple[Case, str, str]]) -> str:
    """One row a kind, one column an outcome."""
    counts = collections.Counter((case.kind, what) for case, what, _ in done)
    kinds = list(dict.fromkeys(case.kind for case, _, _ in done))
    rows = [["", "files", *OUTCOMES], ["---"] * (len(OUTCOMES) + 2)]
    for kind in kinds:
        numbers = [counts[kind, what] for what in OUTCOMES]
        rows.append([kind, str(sum(numbers)), *(str(n or "") for n in numbers)])
    totals = [sum(what == column for _, what, _ in done) for column in OUTCOMES]
    rows.append(["together", str(len(done)), *map(str, totals)])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def run(folder: Path) -> Iterator[tuple[Case, str, str]]:
    """Make the good folder and try all cases."""
    good_root = make_good(folder)
    good, skipped = read(good_root)
    assert len(good) == CLIPS and not skipped
    for case in cases():
        yield case, *try_case(case, good_root, good, folder)


def main(folder: Path) -> None:
    done = []
    for case, what, detail in run(folder):
        done.append((case, what, detail))
        print(case.kind, case.name, case.seed, what, detail, sep="\t", flush=True)
    print(f"\n{table(done)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
