"""The last frame stands until the sound ends; a file that is cut off is damaged all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from media import SHARED, counter_frame, counter_of, decode_frames, tone, write_media

from diffmavil.data import Clip, ClipDataModule, FolderSource
from diffmavil.data.audit import Audit
from diffmavil.data.dataset import Item, Request
from diffmavil.data.decode import MediaFile
from diffmavil.data.errors import MediaError
from diffmavil.data.shards import Stored, encode

COUNTER = [counter_frame(k) for k in range(60)]

KINDS: dict[str, dict[str, Any]] = {
    "mp4": {},
    "mov": {},
    "mkv": {},
    "webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "rate": 48000},
    "avi": {"video_codec": "mpeg4", "audio_codec": "mp3", "rate": 44100},
    "ts": {},
    "flv": {"rate": 44100},
    "untagged.mkv": {},
}


def write(path: Path, frames: int, kind: str) -> Path:
    """Six seconds of sound under some frames, ten a second."""
    settings = KINDS[kind]
    write_media(path, frames=COUNTER[:frames], sound=tone(6.0, rate=settings.get("rate", 16000)), **settings)
    if kind.startswith("untagged"):  # as mkvmerge and recorders write them
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"ENDURING"))
    return path


def items(folder: Path, training: bool) -> list[Item]:
    """A window of each clip of a folder."""
    data = ClipDataModule(source=FolderSource(root=folder), clip_s=4.0, num_frames=8, fps=2.0, image_size=32)
    data.setup("fit")
    dataset = data._dataset(data.split_indices["train"], training=training, modalities="audio_video")
    return dataset.__getitems__([Request(0, k) for k in range(len(data.clips))]).items


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_under_one_frame_is_whole(tmp_path: Path, kind: str) -> None:
    for frames in (1, 20) if kind != "flv" else (1,):
        write(tmp_path / f"{frames}.{kind}", frames, kind)
    for training in (False, True):
        for item in items(tmp_path, training):
            assert not item.skips
            (sample,) = item.samples
            assert sample.waveform is not None and sample.num_samples == len(sample.waveform) == 4 * 16000 + 240
            assert sample.frames is not None and sample.num_frames == 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_frame_is_the_one_that_stands(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", 20 if kind != "flv" else 1, kind)
    last = 19 if kind != "flv" else 0
    for times_s in ([2.2, 3.0, 5.9], [5.9]):  # the second goes there directly
        for frame in decode_frames(path, times_s):
            assert counter_of(frame) == pytest.approx(last, abs=1)  # MPEG-4 is coarse


def test_prepare_names_one_frame_still_and_a_film_that_ends_early_apart(tmp_path: Path) -> None:
    def outcome(frames: int, kind: str, **audit: Any) -> str | int:
        path = write(tmp_path / f"{frames}.{kind}", frames, kind)
        try:
            with MediaFile(path) as media:
                found = encode.encode_clip(Clip(str(path)), media, "audio_video", Stored(), Audit(**audit))
        except MediaError as error:
            return error.reason
        return len(found.jpegs)

    for kind in ("mp4", "mkv", "webm", "avi"):
        assert outcome(1, kind) == "still picture"
        assert outcome(20, kind) == "sound and picture apart"
        assert outcome(20, kind, apart_s=None) in (24, 25)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "untagged.mkv", "flv"])
def test_a_file_that_is_cut_off_is_damaged(tmp_path: Path, kind: str) -> None:
    settings = KINDS[kind]
    path = tmp_path / f"a.{kind}"
    options = {"movflags": "faststart"} if kind == "mp4" else None
    rate = settings.get("rate", 16000)
    for sound in (tone(6.0, rate=rate), None):
        write_media(path, frames=COUNTER, sound=sound, container_options=options, **settings)
        if kind.startswith("untagged"):
            path.write_bytes(path.read_bytes().replace(b"DURATION", b"ENDURING"))
        decode_frames(path, [5.9])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for times_s in ([0.0, 5.5], [5.5]):
            with pytest.raises(MediaError, match="cannot be decoded"):
                decode_frames(path, times_s)


def test_one_picture_of_the_shared_cases() -> None:
    case = SHARED.parent / "cases" / "5_one_picture.mp4"
    if not case.is_file():
        pytest.skip("the folder shared/cases is not beside the project")
    with MediaFile(case) as media:
        assert media.info.shown_s == pytest.approx((0.0, 5.994), abs=0.01)
