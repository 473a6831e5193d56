"""Clips and settings with one stream where a module reads two: what is said, and that nothing is begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_config import CONFIG, Run
from media import tone, write_media

FINE = CONFIG.replace("PretrainModule", "FineTuneModule").replace("    model:", "    num_classes: 2\n    backbone:")
PROBE = FINE.replace("FineTuneModule", "LinearProbe").replace("    num_classes: 2\n", "")
SMALL = ["--data.clip_s", "0.64", "--data.num_frames", "2", "--data.fps", "5", "--data.image_size", "32"]


def _last(err: str) -> str:
    assert "Traceback" not in err and not Path("lightning_logs").exists() and not Path("checkpoints").exists()
    return err.splitlines()[-1].removeprefix("diffmavil: error: ")


@pytest.mark.parametrize("command", ["fit", "validate", "flops"])
@pytest.mark.parametrize("stream", ["audio", "video"])
def test_pretraining_on_one_stream_is_refused_before_a_clip_is_looked_for(command: str, stream: str, run: Run) -> None:
    code, out, err = run(command, "--config", "mine.yaml", "--data.modalities", stream)
    rule = (
        f"data.modalities must be audio_video in pretraining, got {stream}: pretraining on one stream is not there yet"
    )
    assert (code, out, _last(err)) == (2, "", rule), "although there is no folder clips"


@pytest.mark.parametrize("config", [FINE, PROBE])
def test_other_streams_than_the_models_are_refused_before_a_clip_is_looked_for(config: str, run: Run) -> None:
    Path("other.yaml").write_text(config)
    for model, data in (("audio_video", "audio"), ("audio", "video"), ("video", "audio")):
        settings = ("--model.modalities", model, "--data.modalities", data)
        code, _, err = run("test", "--config", "other.yaml", *settings, *SMALL)
        rule = f"data.modalities must be {model}, which the model reads (model.modalities), got {data}"
        assert (code, _last(err)) == (2, rule)


def test_the_advice_fits_the_module(run: Run) -> None:
    write_media(Path("clips/a.wav"), sound=tone(1.0), audio_codec="pcm_s16le")
    Path("fine.yaml").write_text(FINE)
    both = "to read audio alone, set data.modalities and model.modalities to audio"
    for command, config, advice in (
        (
            "fit",
            "mine.yaml",
            "pretraining needs clips with audio and video: pretraining on one stream is not there yet",
        ),
        ("predict", "mine.yaml", "to read audio alone, set data.modalities to audio"),
        ("fit", "fine.yaml", both),
    ):
        code, _, err = run(command, "--config", config, *SMALL)
        start = "none of the 1 clips can be read as audio_video; the first: clips/a.wav: no video track"
        assert (code, _last(err)) == (2, f"{start}; {advice}")
    code, _, err = run("predict", "--config", "mine.yaml", *SMALL, "--data.modalities", "audio")
    assert code == 0, "what the advice says works"
    code, _, err = run("stats", "--config", "mine.yaml", *SMALL)
    assert code == 2 and _last(err).endswith("; to read audio alone, set data.modalities to audio")
    code, _, err = run("prepare", "clips", "--out", "shards", "--workers", "1")
    rule = f"no clip of 1 passes: rejected 1: 1 no video track ({Path('shards', 'rejected.csv')})"
    assert (code, _last(err)) == (2, f"{rule}; to prepare audio alone, set modalities to audio")
