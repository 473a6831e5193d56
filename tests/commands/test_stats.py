"""Mean and standard deviation of the log-mel values."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command_config import Run
from media import counter_frame, tone, write_media
from torchaudio.compliance import kaldi

from diffmavil.commands.stats import measure
from diffmavil.data import ClipDataModule, ManifestSource


def test_statistics_over_the_real_frames_of_the_train_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    features = []
    for k, seconds in enumerate((0.5, 1.0, 0.9, 2.0)):
        sound = tone(seconds, 300.0 * (k + 1)) + 0.05 * generator.standard_normal((1, round(seconds * 16000)))
        samples = np.round(sound[0] * 32767).astype(np.int16)
        write_media(tmp_path / f"{k}.wav", sound=sound.astype(np.float32), audio_codec="pcm_s16le")
        waveform = torch.from_numpy(samples).float() / 32768
        if k < 3:  # the last one is for testing
            features.append(
                kaldi.fbank(
                    (waveform - waveform.mean())[None],
                    htk_compat=True,
                    use_energy=False,
                    window_type="hanning",
                    num_mel_bins=64,
                    dither=0.0,
                )
            )
    (tmp_path / "m.csv").write_text("path,split\n0.wav,train\n1.wav,train\n2.wav,train\nx.wav,train\n3.wav,test\n")
    data = ClipDataModule(
        source=ManifestSource(path=tmp_path / "m.csv"),
        modalities="audio",
        batch_size=2,
        num_workers=0,
        clip_s=1.5,
        num_mel_bins=64,
        audio_mean=3.0,
        audio_std=0.1,
    )
    mean, std = measure(data)
    expected = torch.cat(features)
    assert mean == pytest.approx(float(expected.mean()), abs=2e-2)
    assert std == pytest.approx(float(expected.std()), abs=2e-2)
    assert capsys.readouterr().out == f"audio_mean: {mean:.4f}\naudio_std: {std:.4f}\n"


PRETRAIN = """
trainer: {accelerator: cpu, max_epochs: 1, logger: false, enable_progress_bar: false, enable_model_summary: false}
model:
  class_path: PretrainModule
  init_args: {model: {class_path: diffmavil.models.diffmavil, init_args: {size: nano}}}
data:
  source: {class_path: ManifestSource, init_args: {path: clips/m.csv}}
  num_workers: 0
  batch_size: 4
  clip_s: 0.48
  num_mel_bins: 32
  num_frames: 4
  fps: 10.0
  image_size: 32
  horizontal_flip: false
"""
LEFT_OUT = {
    "silent.mp4": "silent",
    "constant.mkv": "silent",
    "no_video.mp4": "no video track",
    "no_audio.mp4": "no audio track",
    "cut_short.mp4": "too short",
    "empty.mp4": "empty file",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good clips, one of each kind that a training skips, and silent ones; and what pretraining reads of them."""
    clips = tmp_path / "clips"
    frames = [counter_frame(k, 64, 48) for k in range(10)]
    for k in range(4):
        write_media(clips / f"{k}.mp4", frames=frames, sound=tone(1.0, 300.0 * (k + 1), amplitude=0.2 + 0.1 * k))
    write_media(clips / "silent.mp4", frames=frames, sound=tone(1.0, amplitude=0.0))
    offset = np.full((1, 16000), 0.25, np.float32)
    write_media(clips / "constant.mkv", frames=frames, sound=offset, audio_codec="pcm_s16le")
    write_media(clips / "no_video.mp4", sound=tone(1.0, 5000.0))
    write_media(clips / "no_audio.mp4", frames=frames)
    write_media(clips / "cut_short.mp4", frames=frames, sound=tone(1.0, 5000.0))
    write_media(clips / "held_out.mp4", frames=frames, sound=tone(1.0, 7000.0))
    (clips / "empty.mp4").touch()
    rows = [f"{k}.mp4,train,," for k in range(4)]
    rows += [f"{name},train,{'0.5,4.0' if name == 'cut_short.mp4' else ','}" for name in LEFT_OUT]
    (clips / "m.csv").write_text("\n".join(["path,split,start_s,end_s", *rows, "held_out.mp4,test,,"]) + "\n")
    (clips / "good.csv").write_text("path\n" + "".join(f"{k}.mp4\n" for k in range(4)))
    (tmp_path / "pretrain.yaml").write_text(PRETRAIN)
    return tmp_path


def values(text: str) -> tuple[float, float]:
    found = yaml.safe_load(text)
    return found["audio_mean"], found["audio_std"]


@pytest.mark.parametrize("eval_windows", ["1", "2"])
def test_what_is_measured_is_what_a_training_reads(folder: Path, run: Run, eval_windows: str) -> None:
    args = ["stats", "--config", "pretrain.yaml", "--data.eval_windows", eval_windows]
    code, expected, error = run(*args, "--data.source.path", "clips/good.csv")
    assert code == 0 and "left out" not in error, error
    code, text, error = run(*args, "--out", "stats.yaml")
    assert (code, text) == (0, expected), error
    assert "left out 6 of 10 clips: 2 silent, " in error and "; listed in stats_left_out.csv" in error
    with (folder / "stats_left_out.csv").open() as file:
        assert {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)} == LEFT_OUT
    written = yaml.safe_load((folder / "stats.yaml").read_text())
    assert list(written) == ["data"] and list(written["data"]) == ["audio_mean", "audio_std"]
    mean, std = values(text)
    assert written["data"] == {"audio_mean": pytest.approx(mean, abs=1e-4), "audio_std": pytest.approx(std, abs=1e-4)}
    code, text, error = run(*args)
    assert (code, text) == (0, expected)
    assert all(f"{name}: {reason}" in error for name, reason in LEFT_OUT.items()), "named where no file lists them"


def test_what_a_training_skips_is_what_is_left_out(folder: Path, run: Run) -> None:
    """But for the silent ones, which it reads and counts."""
    code, _, error = run("stats", "--config", "pretrain.yaml", "--out", "stats.yaml")
    assert code == 0, error
    code, _, error = run("fit", "--config", "pretrain.yaml", "--config", "stats.yaml")
    assert code == 0, error
    with (folder / "stats_left_out.csv").open() as file, (folder / "skipped.csv").open() as other:
        left_out, skipped = list(csv.DictReader(file)), list(csv.DictReader(other))
    assert skipped == [row for row in left_out if row["reason"] != "silent"]


def test_the_file_is_a_config(folder: Path, run: Run) -> None:
    assert run("stats", "--config", "pretrain.yaml", "--out", "stats.yaml")[0] == 0
    written = yaml.safe_load((folder / "stats.yaml").read_text())["data"]
    code, text, error = run("fit", "--config", "pretrain.yaml", "--config", "stats.yaml", "--print_config")
    assert code == 0, error
    data = yaml.safe_load(text)["data"]
    assert (data["audio_mean"], data["audio_std"]) == (written["audio_mean"], written["audio_std"])
    assert data["clip_s"] == 0.48 and data["source"]["class_path"].endswith("ManifestSource")
    assert run("stats", "--config", "pretrain.yaml", "--out", "stats.yaml")[0] == 0, "its own file is replaced"


@pytest.mark.parametrize(
    ("out", "message"),
    [("pretrain.yaml", "out must be a new file or one that diffmavil stats wrote, got pretrain.yaml"),
     ("clips", "out must be a new file or one that diffmavil stats wrote, got clips"),
     ("/dev/null", "out must be a new file or one that diffmavil stats wrote, got /dev/null"),
     ("none/stats.yaml", "out must be in a folder that exists, got none/stats.yaml"),
     ("clips/0.mp4/stats.yaml", "out must be in a folder that exists, got clips/0.mp4/stats.yaml"),
     (f"{'x' * 300}.yaml", "File name too long")],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    opened: list[str] = []
    monkeypatch.setattr(ManifestSource, "open", lambda self, clip, **kwargs: opened.append(clip.path))
    code, text, error = run("stats", "--config", "pretrain.yaml", "--out", out)
    assert (code, text, opened) == (2, "", []) and message in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_nothing_but_silence_has_no_statistics(folder: Path, run: Run) -> None:
    (folder / "clips" / "m.csv").write_text("path\nsilent.mp4\nconstant.mkv\n")
    code, text, error = run("stats", "--config", "pretrain.yaml", "--out", "stats.yaml")
    assert (code, text) == (2, "")
    assert "must have sound that can be read, got none; left out 2 of 2 clips: 2 silent" in error
    assert not list(folder.glob("stats*")), "nothing is left behind"


def test_pictures_alone_have_no_statistics(tmp_path: Path) -> None:
    data = ClipDataModule(source=ManifestSource(path=tmp_path / "m.csv"), modalities="video")
    with pytest.raises(ValueError, match="modalities must contain audio to measure its statistics, got video"):
        measure(data)
