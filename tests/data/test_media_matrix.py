"""A part of the matrix of good files: what is read is what the ``ffmpeg`` command reads."""

from __future__ import annotations

import shutil

import media_matrix
import numpy as np
import pytest

PART = {
    "h264_aac.mkv": ("cut at the start", "second segment", "time stamps from 1000 s", "pauses", "audio ends early"),
    "b_frames.mp4": ("packets of audio left out", "joined with a pause", "video begins late"),
    "h264_aac.flv": ("time stamps from 1000 s", "pauses", "audio ends early"),
    "b_frames.ts": ("cut at the start", "pauses", "audio begins late"),
    "mpeg4_mp3.avi": ("time stamps kept", "pauses", "audio ends early"),
    "mpeg2_ac3.vob": ("pauses", "audio ends early"),
    "wmv2_wma2.asf": ("time stamps kept", "audio begins late"),
    "plain.opus": ("cut at the start", "pauses"),
    "opus.weba": ("pauses",),
    "flac.oga": ("cut in the middle",),
    "plain.flac": ("cut at the start", "joined"),
    "plain.wv": ("joined",),
    "plain.mp3": ("cut after reading",),
    "little.aifc": ("plain",),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[media_matrix.Good]:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg command is not installed")
    folder = tmp_path_factory.mktemp("matrix")
    return [good for name, groups in PART.items() for good in media_matrix.make(folder, [name], groups)]


def test_good_files_are_read_as_ffmpeg_reads_them(files: list[media_matrix.Good]) -> None:
    assert len(files) == sum(map(len, PART.values()))
    found = [(good.path.name, *media_matrix.outcome(good)) for good in files]
    assert [row for row in found if row[1] != media_matrix.SAME] == []


def test_the_comparison_tells_what_differs(files: list[media_matrix.Good]) -> None:
    plain = next(good.path for good in files if good.path.name.endswith("opus.weba"))
    audio, _, complaints = media_matrix.reference(plain)
    assert not complaints and not media_matrix.compare_audio(audio, audio)
    half = len(audio) // 2
    late = [*audio[:half], *([0.0] * 1000), *audio[half:-1000]]
    for other in (audio[:-4000], 0.5 * audio, np.array(late, np.float32)):
        assert media_matrix.compare_audio(other, audio)
    video_file = next(good.path for good in files if good.path.suffix == ".mkv")
    _, frames, _ = media_matrix.reference(video_file)
    assert not media_matrix.compare_frames(video_file, frames)
    assert media_matrix.compare_frames(video_file, frames[::-1])
