"""Hostile and damaged checkpoints: refused in one line, and no path in them is followed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import hostile_checkpoints
import lightning as L
import pytest
import torch
from hostile_resume import CONFIG
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from small import made_data

from diffmavil import cli
from diffmavil.callbacks import ComputeAccounting
from diffmavil.models import builders, diffmavil
from diffmavil.models.checkpoint_file import check_file
from diffmavil.models.checkpoints import CheckpointError, read_checkpoint
from diffmavil.modules import PretrainModule
from diffmavil.modules.checkpoint_checks import check_checkpoint
from diffmavil.modules.checkpoint_paths import keep_own_paths
from diffmavil.modules.resumable import LOOPS

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory"),
]


def _copied(value: Any) -> Any:
    """Its lists and mappings, with the same tensors in them."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


@dataclass
class Run:
    """A run of four steps, of a model that is small enough for many checkpoints."""

    folder: Path
    config: Path
    module: PretrainModule
    data: L.LightningDataModule
    trainer: L.Trainer

    @cached_property
    def content(self) -> Any:
        return torch.load(self.last, weights_only=True)

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def copied(self, to: Path) -> Run:
        """The same, in another place, with two folders beside its checkpoints that are not to be touched."""
        shutil.copytree(self.folder, to / "run")
        for victim in ("victim", "victim.ckpt"):
            (to / "run" / victim).mkdir()
            (to / "run" / victim / "thesis.txt").write_text("years of work")
        config = to / "run.yaml"
        config.write_text(self.config.read_text().replace(str(self.folder), str(to / "run")))
        return Run(to / "run", config, self.module, self.data, self.trainer)

    def command(self, name: str, *args: str) -> int:
        return cli.main([name, "--config", str(self.config), *args])

    def spoil(self, case: hostile_checkpoints.Case) -> Any:
        content = _copied(self.content)
        assert case.spoil is not None
        returned = case.spoil(content, self.folder)
        return content if returned is None else returned

    def check(self, content: Any, *, resume: bool = True) -> None:
        check_checkpoint(content, self.module, name="it", resume=resume, trainer=self.trainer, data=self.data)


@pytest.fixture(scope="module")
def good(made_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        small = builders.Size(
            embed_dim=32,
            depth=1,
            num_heads=2,
            fusion_depth=1,
            decoder_embed_dim=32,
            decoder_depth=1,
            decoder_num_heads=2,
        )
        patch.setitem(builders.SIZES, "nano", small)
        folder = tmp_path_factory.mktemp("hostile")
        config = folder / "run.yaml"
        config.write_text(CONFIG.format(run=folder / "run", data=made_clips))
        module = PretrainModule(model=diffmavil(size="nano"))
        callbacks = [EarlyStopping(monitor="train/loss", patience=100), ComputeAccounting()]
        trainer = L.Trainer(logger=False, accelerator="cpu", callbacks=callbacks)
        run = Run(folder / "run", config, module, made_data(made_clips), trainer)
        assert run.command("fit", "--trainer.max_steps", "4") == 0
        yield run


def of(*makers: Any) -> list[hostile_checkpoints.Case]:
    return [case for maker in makers for case in maker()]


def test_a_good_one_is_not_refused(good: Run) -> None:
    check_file(good.last)
    for resume in (True, False):
        good.check(read_checkpoint(good.last), resume=resume)
    fresh = L.Trainer(logger=False, accelerator="cpu").fit_loop.state_dict()
    assert {key for key in fresh if "state_dict" not in key or key in LOOPS} == set(LOOPS), "Lightning's own"


def test_contents_that_are_refused(good: Run) -> None:
    makers = (
        hostile_checkpoints.structures,
        hostile_checkpoints.missing,
        hostile_checkpoints.tensors,
        hostile_checkpoints.counts,
        hostile_checkpoints.states,
    )
    taken = []
    for case in of(*makers):
        content = good.spoil(case)
        if not isinstance(content, dict):
            continue  # read_checkpoint refuses it
        try:
            good.check(content)
            taken.append(f"{case.kind}: {case.name}")
        except CheckpointError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 500, case
    # a callback's own affair, which it refuses itself (below)
    assert [name for name in taken if "ComputeAccounting" not in name] == []


def test_files_that_are_refused(good: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    expected = torch.load(good.last, weights_only=True)["state_dict"]
    taken = []
    for case in of(hostile_checkpoints.code, hostile_checkpoints.files):
        case.make(good.last, checkpoint)
        try:
            content = read_checkpoint(checkpoint)
            good.check(content)
            if any(not torch.equal(value, content["state_dict"][key]) for key, value in expected.items()):
                taken.append(case.name)
        except CheckpointError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 500, case
        assert not (tmp_path / "run" / "executed").exists(), case
        checkpoint.rmdir() if checkpoint.is_dir() else checkpoint.unlink()
    assert taken == []


@pytest.mark.parametrize("where", ["local://{}", "{}/checkpoints/../../run"])
def test_no_path_out_of_the_folder_is_followed(
    good: Run, tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = good.copied(tmp_path)
    content = torch.load(run.last, weights_only=True)
    victim = where.format(run.folder) + "/victim"
    for key, state in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            state |= {"best_model_path": victim, "last_model_path": victim, "dirpath": str(run.folder / "checkpoints")}
            state |= {"best_k_models": {victim: torch.tensor(9.0), victim + "2": torch.tensor(9.0)}}
            state |= {"kth_best_model_path": victim, "kth_value": torch.tensor(9.0)}
    torch.save(content, run.last)
    assert run.command("fit", "--ckpt_path", str(run.last)) == 0
    assert (run.folder / "victim" / "thesis.txt").exists()
    assert "names files that are no checkpoints of this run, forgotten: " in caplog.text


def test_paths_of_every_key_become_own_ones_or_empty(good: Run, tmp_path: Path) -> None:
    run = good.copied(tmp_path)
    own = str(run.folder / "checkpoints")
    callback = ModelCheckpoint(dirpath=own, monitor="a")
    for case in of(hostile_checkpoints.paths):
        content = run.spoil(case)
        state = next(state for state in content["callbacks"].values() if "dirpath" in state)
        states = {callback.state_key: state, "ModelCheckpoint of other settings": deepcopy(state)}
        keep_own_paths(states, [callback], str(run.last))
        for state in states.values():
            found = [*state["best_k_models"], *(state[f"{key}_model_path"] for key in ("best", "last", "kth_best"))]
            names = {path.name for path in run.last.parent.iterdir()} - {"link.ckpt"}
            assert {Path(path).parent.as_posix() for path in found if path} <= {own}, case
            assert {Path(path).name for path in found if path} <= names, case
            assert state["dirpath"] == own


class _Notes(L.Callback):
    """Writes no checkpoints."""


class _ModelCheckpointNotes(L.Callback):
    """Nor does this one."""


class _Copies(Checkpoint):
    """Writes checkpoints, in its own way."""


def test_states_of_other_callbacks_are_their_own(good: Run) -> None:
    state = {"dirpath": "/a/b", "best_k_models": 3, "text": "and/or", "best_model_path": "/etc/passwd"}
    callbacks = [_Notes(), _ModelCheckpointNotes(), _Copies()]
    states = {**{callback.state_key: dict(state) for callback in callbacks[:2]}, "read by nobody": dict(state)}
    states["_Copies"] = {"copied": 3, "newest": "/etc/passwd", "best_k_models": 3}
    assert keep_own_paths(states, callbacks, str(good.last)) == ["/etc/passwd"]
    assert states.pop("_Copies") == {"copied": 3, "newest": "", "best_k_models": {}}
    assert all(value == state for value in states.values()) and len(states) == 3


def test_a_state_that_two_read_is_that_of_the_one_that_writes_checkpoints(good: Run) -> None:
    callback = ModelCheckpoint(monitor="a")
    other = type("Other", (L.Callback,), {"state_key": callback.state_key})()
    for callbacks in ([callback, other], [other, callback]):
        states = {callback.state_key: {"best_model_path": "/etc/passwd"}}
        keep_own_paths(states, callbacks, str(good.last))
        assert states[callback.state_key]["best_model_path"] == ""


def test_a_run_that_was_moved_knows_its_best_checkpoints(good: Run, tmp_path: Path) -> None:
    run = good.copied(tmp_path)
    before = {path.name for path in (run.folder / "checkpoints").glob("epoch*")}
    assert len(before) == 2
    elsewhere = {path: path.read_bytes() for path in (good.folder / "checkpoints").iterdir()}
    assert run.command("fit", "--ckpt_path", str(run.last), "--trainer.max_steps", "8") == 0
    states = torch.load(run.last, weights_only=True)["callbacks"].values()
    (state,) = (state for state in states if state.get("best_k_models"))
    after = {path.name for path in (run.folder / "checkpoints").glob("epoch*")}
    assert len(after) == 2, "worse ones are removed, also those of before the move"
    assert state["dirpath"] == str(run.folder / "checkpoints")
    assert elsewhere == {path: path.read_bytes() for path in (good.folder / "checkpoints").iterdir()}


def test_weights_only_is_tested_but_not_resumed(good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = good.copied(tmp_path)
    config = run.config.read_text().replace("save_last: true", "save_last: true, save_weights_only: true")
    run.config.write_text(config)
    run.last.unlink()
    assert run.command("fit", "--trainer.max_steps", "1") == 0
    saved = max(run.last.parent.glob("last*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    for command in ("test", "predict"):
        assert run.command(command, "--ckpt_path", str(saved)) == 0
    capsys.readouterr()
    assert run.command("fit", "--ckpt_path", str(saved)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "holds weights only, as save_weights_only: true writes it: it cannot be resumed" in line


class _Settings(L.Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.groups = [{k: v for k, v in g.items() if k != "params"} for g in trainer.optimizers[0].param_groups]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_no_setting_of_the_optimiser_comes_from_a_checkpoint(good: Run, tmp_path: Path) -> None:
    content = torch.load(good.last, weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        group |= {"maximize": True, "amsgrad": True, "eps": float("nan"), "fused": None, "unheard_of": 3}
    torch.save(content, tmp_path / "odd.ckpt")
    settings = _Settings()
    run = L.Trainer(
        accelerator="cpu",
        logger=False,
        max_steps=5,
        default_root_dir=tmp_path,
        callbacks=[settings],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    run.fit(PretrainModule(model=diffmavil(size="nano")), good.data, ckpt_path=tmp_path / "odd.ckpt", weights_only=True)
    for group in settings.groups:
        assert (group["maximize"], group["amsgrad"], group["eps"], group["fused"]) == (False, False, 1e-8, True)
        assert "unheard_of" not in group


def test_what_a_callback_counts_is_looked_at(good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = good.copied(tmp_path)
    content = torch.load(good.last, weights_only=True)
    content["callbacks"]["ComputeAccounting"]["epochs"] = [{"epoch": 0, "steps": -1}]
    torch.save(content, run.last)
    assert run.command("fit", "--ckpt_path", str(run.last)) == 2
    assert "ComputeAccounting" in capsys.readouterr().err.splitlines()[-1]
    for value in (None, 3, [1], [{"epoch": 0}], [{"epoch": 0, "steps": 1.5}]):
        with pytest.raises(ValueError, match="counts of ComputeAccounting must be"):
            ComputeAccounting().load_state_dict({"epochs": value})
