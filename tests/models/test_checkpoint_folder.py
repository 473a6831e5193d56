"""Folders of shards: those of PyTorch are taken, hostile and damaged ones are refused, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hostile_resume import CONFIG
from torch.distributed.checkpoint import metadata as parts

from diffmavil import cli
from diffmavil.models.checkpoint_file import check_archive
from diffmavil.models.checkpoint_folder import MAX_TABLE_BYTES, check_folder, read_folder_meta
from diffmavil.models.checkpoints import CheckpointError


class Call:
    """An object that a pickle makes by calling a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class Folder:
    """A copy of a good folder, to be spoilt.

    Args:
        path: Its place.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.shard = path, path / "__0_0.distcp"
        self.evil = Call(os.mkdir, str(path.with_name("executed")))

    @property
    def table(self) -> Any:
        return pickle.loads((self.path / ".metadata").read_bytes())

    def write(self, table: Any) -> None:
        (self.path / ".metadata").write_bytes(pickle.dumps(table))

    def change(self, spoil: Callable[[Any], Any]) -> None:
        table = self.table
        spoil(table)
        self.write(table)

    def change_bytes(self, old: bytes, new: bytes) -> None:
        table = (self.path / ".metadata").read_bytes()
        at = table.index(old)
        (self.path / ".metadata").write_bytes(table[:at] + new + table[at + len(new) :])

    def place(self, key: str, **fields: Any) -> None:
        """Change where a value lies."""

        def spoil(table: Any) -> None:
            (entry,) = (entry for index, entry in table.storage_data.items() if index.fqn == key)
            vars(entry).update(fields)

        self.change(spoil)

    def put(self, key: str, content: bytes) -> None:
        """Put other bytes in the place of a value, behind the others."""
        offset = self.shard.stat().st_size
        with self.shard.open("ab") as file:
            file.write(content)
        self.place(key, offset=offset, length=len(content))

    def save(self, key: str, value: Any, **kwargs: Any) -> None:
        buffer = BytesIO()
        torch.save(value, buffer, **kwargs)
        self.put(key, buffer.getvalue())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "good.ckpt"
    state = {
        "state_dict": OrderedDict(
            weight=torch.ones(3, 4), half=torch.ones(2, dtype=torch.bfloat16), step=torch.ones(())
        ),
        "optimizer_0": {"groups": [{"lr": 0.1, "betas": (0.9, 0.95), "fused": True, "foreach": None, "names": ["a"]}]},
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.save(state, checkpoint_id=path, no_dist=True)
    torch.save({"epoch": 3}, path / "meta.pt")
    return path


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Folder:
    return Folder(Path(shutil.copytree(good, tmp_path / "shards.ckpt")))


def test_a_folder_of_pytorch_is_taken(folder: Folder) -> None:
    keys = {index.fqn for index in folder.table.storage_data}
    assert {"state_dict.weight", "optimizer_0.groups.0.betas", "optimizer_0.groups.0.fused"} <= keys
    check_folder(folder.path, "it")
    assert read_folder_meta(folder.path) == {"epoch": 3}


PLAIN, TENSOR = "optimizer_0.groups.0.lr", "state_dict.weight"


def two_lists(folder: Folder) -> bytes:
    """A zip file with a list of members for Python's reader, and before that another one, for PyTorch's."""
    sides = []
    for value in ("mild" * 100, folder.evil):
        torch.save(value, buffer := BytesIO())
        content = buffer.getvalue()
        sides.append((content, *struct.unpack("<2L", content[-10:-2])))
    (mild, size, begins), (evil, evil_size, evil_begins) = sides
    assert size == evil_size and begins > evil_begins
    # Python's reader takes the list right before the end, and all places as so much further behind
    return evil[:-22] + bytes(begins - evil_begins) + mild[:-6] + struct.pack("<LH", evil_begins, 0)


def opcodes(code: bytes | None, **more: bytes) -> bytes:
    """A plain value whose pickle is replaced, or that has more files."""
    torch.save(0.1, buffer := BytesIO())
    with ZipFile(buffer) as old, ZipFile(changed := BytesIO(), "w") as new:
        for name in old.namelist():
            new.writestr(name, code if code and name.endswith("data.pkl") else old.read(name))
        for name, content in more.items():
            new.writestr(f"archive/{name}.pkl", content)
    return changed.getvalue()


def mkdir(folder: Folder, how: str) -> bytes:
    """Pickles that make a folder, by each instruction that calls."""
    there = str(folder.path.with_name("executed"))
    text = b"X" + struct.pack("<L", len(there)) + there.encode()
    return {
        "GLOBAL": b"\x80\x02cos\nmkdir\n" + text + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + text + b"\x85R.",
        "INST": b"(" + text + b"ios\nmkdir\n.",
        "OBJ": b"(cos\nmkdir\n" + text + b"o.",
    }[how]


def first(table: Any, key: str = TENSOR) -> Any:
    return table.state_dict_metadata[key]


def replaced(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


def larger(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(MAX_TABLE_BYTES + 1)


CALLS = ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ")
HOSTILE: dict[str, Callable[[Folder], Any]] = {
    **{f"table runs {how}": lambda f, how=how: (f.path / ".metadata").write_bytes(mkdir(f, how)) for how in CALLS},
    **{f"value runs {how}": lambda f, how=how: f.put(PLAIN, opcodes(mkdir(f, how))) for how in CALLS},
    **{f"tensor runs {how}": lambda f, how=how: f.put(TENSOR, opcodes(mkdir(f, how))) for how in CALLS},
    "table runs in its planner_data": lambda f: f.change(lambda t: setattr(t, "planner_data", {"a": f.evil})),
    "table runs in its version": lambda f: f.change(lambda t: setattr(t, "version", f.evil)),
    "table runs in a path": lambda f: f.place(PLAIN, relative_path=f.evil),
    "table runs in a field of its own": lambda f: f.change(lambda t: setattr(t, "more", f.evil)),
    "table runs in what it says of itself": lambda f: f.change(lambda t: setattr(t.storage_meta, "save_id", f.evil)),
    "table calls an allowed class oddly": lambda f: f.change(lambda t: setattr(t, "version", Call(torch.Size, [[1]]))),
    "table changes a class": lambda f: (f.path / ".metadata").write_bytes(
        b"\x80\x04\x8c\x25torch.distributed.checkpoint.metadata\x8c\x08Metadata\x93N}\x8c\x01a\x8c\x01bs\x86b."
    ),
    "table is a class": lambda f: f.write(parts.Metadata),
    "table is a dictionary": lambda f: f.write({}),
    "table is empty": lambda f: (f.path / ".metadata").write_bytes(b""),
    "table is cut short": lambda f: os.truncate(f.path / ".metadata", 300),
    "table has more behind it": lambda f: (f.path / ".metadata").write_bytes(
        (f.path / ".metadata").read_bytes() + b"."
    ),
    "table whose frame is longer than it": lambda f: f.change_bytes(b"\x95", b"\x95" + b"\x7f" * 7),
    "table with a dtype that is none": lambda f: f.change_bytes(b"\x8c\x07float32", b"\x8c\x07float31"),
    "table is huge": lambda f: larger(f.path / ".metadata"),
    "table with a bomb as a key": lambda f: (f.path / ".metadata").write_bytes(
        b"\x80\x04})" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(60)) + b"Ns."
    ),
    "value runs in an old file": lambda f: f.save(PLAIN, f.evil, _use_new_zipfile_serialization=False),
    "value runs": lambda f: f.save(PLAIN, f.evil),
    "value runs in a bare pickle": lambda f: f.put(PLAIN, pickle.dumps(f.evil)),
    "value runs for PyTorch alone": lambda f: f.put(PLAIN, two_lists(f)),
    "value is a program of TorchScript": lambda f: f.put(PLAIN, opcodes(None, constants=pickle.dumps(()))),
    "value is a tensor": lambda f: f.save(PLAIN, torch.ones(3)),
    "value is a sparse tensor": lambda f: f.save(TENSOR, torch.eye(3).to_sparse()),
    "value is huge": lambda f: f.put(PLAIN, bytes(2**24 + 1)),
    "path up": lambda f: (
        shutil.copy(f.shard, f.path.parent / "x.distcp"),
        f.place(PLAIN, relative_path="../x.distcp"),
    ),
    "path from the root": lambda f: f.place(PLAIN, relative_path=str(f.shard)),
    "path of another file": lambda f: f.place(PLAIN, relative_path="meta.pt"),
    "path that is none": lambda f: f.place(PLAIN, relative_path=3),
    "negative offset": lambda f: f.place(PLAIN, offset=-5),
    "offset behind the end": lambda f: f.place(PLAIN, offset=2**40),
    "length behind the end": lambda f: f.place(PLAIN, length=2**62),
    "length is no integer": lambda f: f.place(PLAIN, length=1e3),
    "length of thousands of bits": lambda f: f.place(PLAIN, length=2**3000),
    "values over one another": lambda f: f.place(PLAIN, offset=0, length=f.shard.stat().st_size),
    "transformed": lambda f: f.place(PLAIN, transform_descriptors=["zstd"]),
    "value without a place": lambda f: f.change(lambda t: t.storage_data.popitem()),
    "value without a name": lambda f: f.change(lambda t: t.state_dict_metadata.popitem()),
    "no part of a tensor": lambda f: f.change(lambda t: setattr(first(t), "chunks", None)),
    "part outside of its tensor": lambda f: f.change(
        lambda t: setattr(first(t).chunks[0], "sizes", torch.Size([10**9, 4]))
    ),
    "part of other dimensions": lambda f: f.change(lambda t: setattr(first(t).chunks[0], "sizes", torch.Size([3]))),
    "tensor without a size": lambda f: f.change(lambda t: setattr(first(t), "size", None)),
    "no table": lambda f: (f.path / ".metadata").unlink(),
    "no meta.pt": lambda f: (f.path / "meta.pt").unlink(),
    "no shard": lambda f: f.shard.unlink(),
    "shard cut short": lambda f: os.truncate(f.shard, f.shard.stat().st_size - 10),
    "shard with a flipped bit": lambda f: flip(f.shard),
    "meta.pt runs": lambda f: torch.save(f.evil, f.path / "meta.pt"),
    "meta.pt runs in an old file": lambda f: torch.save(
        f.evil, f.path / "meta.pt", _use_new_zipfile_serialization=False
    ),
    "an extra file": lambda f: (f.path / "more.py").write_text(""),
    "a table of one process": lambda f: (f.path / "__0.metadata").write_bytes(b""),
    "a folder": lambda f: (f.path / "more.distcp").mkdir(),
    "a pipe": lambda f: os.mkfifo(f.path / "more.distcp"),
    **{
        f"{name} is a link to {target}": lambda f, name=name, target=target: replaced(
            f.path / name, lambda path: path.symlink_to(target)
        )
        for name in (".metadata", "meta.pt", "__0_0.distcp")
        for target in ("/dev/zero", "nowhere", "meta.pt")
    },
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<2f", 1, 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_refused(folder: Folder, name: str) -> None:
    HOSTILE[name](folder)
    with pytest.raises(CheckpointError) as caught:
        check_folder(folder.path, "checkpoint a.ckpt")
    message = str(caught.value)
    assert message.startswith("checkpoint a.ckpt ") and len(message.splitlines()) == 1 and len(message) < 300
    assert not folder.path.with_name("executed").exists()


@pytest.mark.parametrize("how", CALLS)
def test_these_pickles_do_run(folder: Folder, how: str) -> None:
    pickle.loads(mkdir(folder, how))
    assert folder.path.with_name("executed").is_dir()


def test_pytorch_reads_the_first_list_of_members(folder: Folder) -> None:
    content = two_lists(folder)
    torch.load(BytesIO(content), weights_only=False)
    assert folder.path.with_name("executed").is_dir()
    with ZipFile(BytesIO(content)) as archive:
        assert b"mild" in archive.read("archive/data.pkl")
    with pytest.raises(ValueError, match="it has two lists of its members"):
        check_archive(BytesIO(content), len(content), plain=True)


@pytest.mark.parametrize("name", [name for name in HOSTILE if "meta.pt" in name and "link to meta" not in name])
def test_meta_is_read_as_data(folder: Folder, name: str) -> None:
    HOSTILE[name](folder)
    if name.startswith((".metadata", "__0")):
        return
    with pytest.raises(CheckpointError):
        read_folder_meta(folder.path)
    assert not folder.path.with_name("executed").exists()


@pytest.mark.filterwarnings("ignore:The `strategy` flag")
def test_the_command_runs_nothing_in_a_folder(
    folder: Folder, made_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.save(PLAIN, folder.evil)
    config = folder.path.with_name("run.yaml")
    config.write_text(CONFIG.format(run=folder.path.with_name("run"), data=made_clips))
    settings = {"strategy": "lightning.pytorch.strategies.ModelParallelStrategy", "devices": "1"}
    settings |= {"strategy.data_parallel_size": "1", "strategy.tensor_parallel_size": "1"}
    flags = [word for key, value in settings.items() for word in (f"--trainer.{key}", value)]
    for command in ("fit", "test"):
        args = [command, "--config", str(config), *flags, "--ckpt_path", str(folder.path)]
        assert cli.main(args) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"checkpoint {folder.path} cannot be read: {PLAIN!r} in __0_0.distcp: it holds something else" in line
    assert not folder.path.with_name("executed").exists()
