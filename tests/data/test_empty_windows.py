"""Training windows without sound or without movement are counted, and the run's last lines say how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from media import counter_frame, tone, write_media
from shards import LENIENT, write_shards
from small import learner, made_data, trainer

from diffmavil.data import ClipDataModule
from diffmavil.data.audit import is_silent
from diffmavil.data.empty_windows import EmptyWindows
from diffmavil.data.shards import ShardSource, Stored
from diffmavil.modules import PretrainModule
from diffmavil.types import RawBatch

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

LINE = "of 16 training windows 6 are silent and 8 show a still picture"
"""In two epochs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips to train on: three are silent and four still, one of them both; and one of both to validate with."""
    root = tmp_path_factory.mktemp("empty")
    moving, still = [counter_frame(2 * k) for k in range(10)], [counter_frame(9)] * 10
    sound, silence = tone(1.0), tone(1.0, amplitude=0.0)
    for k in range(2):
        write_media(root / f"good{k}.mp4", frames=moving, sound=sound)
        write_media(root / f"silent{k}.mp4", frames=moving, sound=silence)
        write_media(root / f"still{k}.mp4", frames=still, sound=sound)
    write_media(root / "one_frame.mkv", frames=still[:1], sound=sound)
    write_media(root / "both.mp4", frames=still, sound=silence)
    write_media(root / "val.mp4", frames=still, sound=silence)
    names = sorted(path.name for path in root.iterdir())
    rows = [f"{name},x,{'val' if name == 'val.mp4' else 'train'}" for name in names]
    (root / "manifest.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return root


def fit(data: ClipDataModule, folder: Path, ckpt_path: Path | None = None, **settings: Any) -> None:
    run = trainer(folder, num_sanity_val_steps=1, **settings)
    run.fit(PretrainModule(model=learner()), data, ckpt_path=ckpt_path, weights_only=True)


@pytest.mark.parametrize("read", ["files", "shards", "workers"])
def test_each_window_counts(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, read: str) -> None:
    data = made_data(folder, batch_size=2, num_workers=2 if read == "workers" else 0)
    if read == "shards":
        data.source = ShardSource(
            root=write_shards(data.source, tmp_path / "shards", stored=Stored(fps=10.0), audit=LENIENT)
        )
    fit(data, tmp_path, enable_checkpointing=False)
    assert [record.message for record in caplog.records if "windows" in record.message] == [LINE]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_run_counts_each_window_once(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def saved() -> list[Any]:
        settings: dict[str, Any] = {"every_n_train_steps": 1, "save_top_k": -1, "enable_version_counter": False}
        return [ModelCheckpoint(dirpath=tmp_path, filename="{step}", **settings)]

    fit(made_data(folder, batch_size=2), tmp_path, callbacks=saved())
    assert caplog.messages.count(LINE) == 1
    for step in (1, 4, 6):  # in the first epoch, at its end, in the second
        fit(made_data(folder, batch_size=2), tmp_path, tmp_path / f"step={step}.ckpt", callbacks=saved())
    assert caplog.messages.count(LINE) == 4


def test_a_rank_that_a_checkpoint_does_not_count_for_says_since_when_it_counts(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, line in enumerate(["rank 0: of 8 training windows 3 are silent",
                                 "rank 1: of 2 training windows 1 are silent since the run was resumed"]):  # fmt: skip
        run = trainer(Path("/nowhere"))
        monkeypatch.setattr(type(run), "is_global_zero", property(lambda _, rank=rank: rank == 0))
        monkeypatch.setattr(ClipDataModule, "_place", lambda _, rank=rank: (rank, 2))
        data = made_data(folder)
        data.trainer = run
        run.state.fn = "fit"  # type: ignore[assignment]
        data.load_state_dict({"skipped": [], "empty_windows": {"windows": 6, "silent": 2, "still": 0}})
        data.empty_windows.add(RawBatch(index=torch.arange(2), silent=torch.tensor([True, False])))
        data.teardown("fit")
        assert caplog.messages[-1] == line


def test_no_line_where_there_is_something_in_every_window_and_none_after_other_commands(
    made_clips: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(made_data(made_clips), tmp_path, max_epochs=1, limit_train_batches=2, enable_checkpointing=False)
    trainer(tmp_path).validate(PretrainModule(model=learner()), made_data(folder), verbose=False)
    assert not any("windows" in message for message in caplog.messages)
    assert EmptyWindows(windows=4).summary() is None


def test_silence_is_sound_that_never_differs() -> None:
    quiet = np.zeros(1000, np.int16)
    assert is_silent(quiet) and is_silent(quiet + 7) and is_silent(quiet[:0])
    quiet[999] = 1
    assert not is_silent(quiet)


def test_a_window_of_one_frame_cannot_be_still(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = made_data(folder, num_frames=1, modalities="video")
    data.setup("fit")
    (raw, *_) = list(data.train_dataloader())
    assert raw.still is not None and not raw.still.any() and raw.silent is None
