"""Speech Commands and the Free Spoken Digit Dataset, in their official layout."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from pathlib import Path

import pytest

from diffmavil.data import Clip, FsddSource, SpeechCommandsSource

FILES = """
    bed/0a7c2a8d_nohash_0.wav bed/0a7c2a8d_nohash_1.wav bed/1b4c9b89_nohash_0.wav bed/b.txt
    backward/2aca1e72_nohash_0.wav backward/0165e0e8_nohash_0.wav
    _background_noise_/doing_the_dishes.wav README.md LICENSE .cache/x.wav
"""


def speech_commands(root: Path, validation: str, testing: str) -> SpeechCommandsSource:
    for name in FILES.split():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "validation_list.txt").write_text(validation)
    (root / "testing_list.txt").write_text(testing)
    return SpeechCommandsSource(root=root)


def test_speech_commands_are_split_by_the_official_lists(tmp_path: Path) -> None:
    source = speech_commands(tmp_path, "bed/0a7c2a8d_nohash_0.wav\nbed/0a7c2a8d_nohash_1.wav\n",
                             "backward/0165e0e8_nohash_0.wav\n")  # fmt: skip
    assert list(source.clips()) == [
        Clip(str(tmp_path / "backward/0165e0e8_nohash_0.wav"), split="test", labels=("backward",)),
        Clip(str(tmp_path / "backward/2aca1e72_nohash_0.wav"), split="train", labels=("backward",)),
        Clip(str(tmp_path / "bed/0a7c2a8d_nohash_0.wav"), split="val", labels=("bed",)),
        Clip(str(tmp_path / "bed/0a7c2a8d_nohash_1.wav"), split="val", labels=("bed",)),
        Clip(str(tmp_path / "bed/1b4c9b89_nohash_0.wav"), split="train", labels=("bed",)),
    ]
    assert not source.missing and not source.num_missing()


def test_blank_lines_of_the_lists_say_nothing(tmp_path: Path) -> None:
    listed, tested = "bed/0a7c2a8d_nohash_0.wav", "backward/0165e0e8_nohash_0.wav"
    plain = list(speech_commands(tmp_path, f"{listed}\n", tested).clips())
    for blank in (f"{listed}\n\n", f"\n{listed}\r\n\r\n", f"{listed}\n \t\n\n"):
        assert list(speech_commands(tmp_path, blank, f"{tested}\n\n").clips()) == plain


def test_hidden_files_are_no_words_and_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = speech_commands(tmp_path, "bed/0a7c2a8d_nohash_0.wav\n", "")
    plain = list(source.clips())
    for name in ("bed/._0a7c2a8d_nohash_0.wav", "__MACOSX/._bed", "bed/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    caplog.clear()
    assert list(source.clips()) == plain
    first = tmp_path / ".cache"
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}: left out 1 hidden file and 2 hidden folders, the first {first}"


def test_speech_commands_that_are_listed_and_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = speech_commands(tmp_path, "bed/gone_nohash_0.wav\nbed/gone_nohash_1.wav\n", "cat/gone_nohash_0.wav\n")
    shutil.rmtree(tmp_path / ".cache")
    with caplog.at_level(logging.INFO):
        assert {clip.split for clip in source.clips()} == {"train"}
    assert source.missing == {"val": 2, "test": 1}
    assert source.num_missing() == {("val", ""): 2, ("test", ""): 1}
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path} lacks 2 val and 1 test files of its lists; they are left out"


def test_speech_commands_that_are_wrong(tmp_path: Path) -> None:
    source = speech_commands(tmp_path, "bed/0a7c2a8d_nohash_0.wav", "bed/0a7c2a8d_nohash_0.wav")
    with pytest.raises(ValueError, match="for validation or test, got bed/0a7c2a8d_nohash_0.wav in both lists"):
        list(source.clips())
    for wrong in ("../../etc/passwd", "garbage", "bed/", "bed/a b.wav"):
        (tmp_path / "testing_list.txt").write_text(f"bed/1.wav\n{wrong}\nbed/2.wav\n")
        with pytest.raises(ValueError, match=f"testing_list.txt, line 2: .* word/name.wav, got '{wrong}'"):
            list(source.clips())
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(ValueError, match=r"testing_list.txt: the list cannot be read \(No such file or directory\)"):
        list(source.clips())
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("validation_list.txt", "testing_list.txt"):
        (empty / name).touch()
    with pytest.raises(ValueError, match="root must hold a folder of .wav files for each word, got none in .*empty"):
        list(SpeechCommandsSource(root=empty).clips())


def test_fsdd_tests_on_the_first_five_of_each_speaker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root must hold recordings/digit_speaker_index.wav, got none"):
        FsddSource(root=tmp_path).clips()
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("0_theo_0", "0_theo_4", "0_theo_5", "7_george_49", "7_yweweler_10"):
        (folder / f"{name}.wav").touch()
    assert [(Path(c.path).stem, c.split, c.labels) for c in FsddSource(root=tmp_path).clips()] == [
        ("0_theo_0", "test", ("0",)),
        ("0_theo_4", "test", ("0",)),
        ("0_theo_5", "train", ("0",)),
        ("7_george_49", "train", ("7",)),
        ("7_yweweler_10", "train", ("7",)),
    ]
    (folder / "._7_george_49.wav").touch()
    assert len(FsddSource(root=tmp_path).clips()) == 5
    (folder / "ten_theo_0.wav").touch()
    with pytest.raises(ValueError, match="a recording must be named digit_speaker_index.wav, got .*ten_theo_0.wav"):
        FsddSource(root=tmp_path).clips()


def test_the_real_fsdd(shared_data: Path) -> None:
    clips = FsddSource(root=shared_data / "fsdd").clips()
    assert Counter(clip.split for clip in clips) == {"train": 2700, "test": 300}
    assert Counter(clip.labels for clip in clips) == {(str(digit),): 300 for digit in range(10)}
