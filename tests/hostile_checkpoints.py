"""Hostile and damaged checkpoints, made from one good one.

Each case is a function that spoils the content of a checkpoint, or the bytes of its file. ``hostile_resume.py`` gives
all of them to the real commands.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

Content = dict[str, Any]

CHECKPOINT: Final = "ModelCheckpoint{"
LOOP: Final = ("loops", "fit_loop")
GROUPS, STATE = ("optimizer_states", 0, "param_groups"), ("optimizer_states", 0, "state")
WEIGHT: Final = "model.audio_encoder.patch_embed.weight"


@dataclass(frozen=True)
class Case:
    """A checkpoint file that is not as it should be.

    Args:
        kind: What sort of thing was done to it.
        name: What was done to it.
        spoil: Changes the content of a good one in place, or returns another. It is given the folder of the run too.
        write: Writes the file instead: of its bytes, to its path.
        weights: Whether what was done touches what ``test`` and ``predict`` read.
    """

    kind: str
    name: str
    spoil: Callable[[Any, Path], Any] | None = None
    write: Callable[[bytes, Path], None] | None = None
    weights: bool = False

    def make(self, good: Path, path: Path) -> None:
        """Write the file, beside the good one's neighbours."""
        if self.write is not None:
            self.write(good.read_bytes(), path)
            return
        content = torch.load(good, weights_only=True)
        assert self.spoil is not None
        returned = self.spoil(content, path.parent.parent)
        torch.save(content if returned is None else returned, path)


def at(content: Any, *keys: Any) -> Any:
    for key in keys:
        content = content[key]
    return content


def put(*keys: Any, value: Any) -> Callable[[Any, Path], None]:
    """Set a value; one that is a function is given what was there."""

    def spoil(content: Any, folder: Path) -> None:
        inner = at(content, *keys[:-1])
        inner[keys[-1]] = value(inner[keys[-1]]) if callable(value) else value

    return spoil


def drop(*keys: Any) -> Callable[[Any, Path], None]:
    def spoil(content: Any, folder: Path) -> None:
        del at(content, *keys[:-1])[keys[-1]]

    return spoil


def instead(value: Any) -> Callable[[Any, Path], Any]:
    return lambda content, folder: value


def named(*keys: Any) -> str:
    return ".".join(str(key) for key in keys)


def paths() -> Iterator[Case]:
    """Paths in callback states that lead to the folders ``victim`` and ``victim.ckpt`` beside that of the run."""

    def of(key: str, path: str) -> Callable[[Any, Path], None]:
        def spoil(content: Any, folder: Path) -> None:
            there = path.format(run=folder, checkpoints=folder / "checkpoints")
            link = folder / "checkpoints" / "link.ckpt"
            if not link.is_symlink():
                link.symlink_to(folder / "victim.ckpt")
            for name, state in content["callbacks"].items():
                if name.startswith(CHECKPOINT):
                    state["dirpath"] = str(folder / "checkpoints")
                    if key == "best_k_models":
                        state[key] = {there: torch.tensor(0.1), there + "2": torch.tensor(1e9)}
                        state |= {"kth_best_model_path": there, "kth_value": torch.tensor(1e9)}
                    else:
                        state[key] = there

        return spoil

    targets = (
        "local://{run}/victim",
        "file://{run}/victim",
        "{run}/victim",
        "{checkpoints}/../victim",
        "{checkpoints}/../victim.ckpt",
        "{checkpoints}/link.ckpt",
        "local::{run}/victim.ckpt",
    )
    for key in ("best_model_path", "last_model_path", "kth_best_model_path", "best_k_models"):
        for target in targets[: 7 if key == "best_model_path" else 4]:
            yield Case("path to elsewhere", f"{key} {target}", of(key, target))

    def odd_name(content: Any, folder: Path) -> None:
        of("best_model_path", targets[0])(content, folder)
        states = content["callbacks"]
        for name in [name for name in states if name.startswith(CHECKPOINT)]:
            states["a callback of another name"] = states[name]

    yield Case("path to elsewhere", "also under another callback's name", odd_name)
    yield Case("path to elsewhere", "dirpath of victims", of("dirpath", "{run}/victim"))


class _Call:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def code() -> Iterator[Case]:
    """Pickles that would make a file named ``executed`` beside the run's folder."""
    calls: dict[str, Callable[[str], _Call]] = {
        "os.system": lambda mark: _Call(os.system, f"touch {mark}"),
        "os.mkdir": lambda mark: _Call(os.mkdir, mark),
        "subprocess": lambda mark: _Call(subprocess.check_call, ["touch", mark]),
        "eval": lambda mark: _Call(eval, f"open({mark!r}, 'w')"),
        "exec": lambda mark: _Call(exec, f"open({mark!r}, 'w')"),
        "open": lambda mark: _Call(open, mark, "w"),
        "getattr": lambda mark: _Call(getattr, _Call(__import__, "os"), "mkdir"),
        "torch.save": lambda mark: _Call(torch.save, 1, mark),
    }
    for name, call in calls.items():

        def spoil(content: Any, folder: Path, call: Callable[[str], _Call] = call) -> None:
            content["callbacks"]["more"] = call(str(folder / "executed"))

        yield Case("pickle that executes", name, spoil, weights=True)

    def bare(content: bytes, path: Path) -> None:
        path.write_bytes(pickle.dumps(_Call(os.mkdir, str(path.parent.parent / "executed"))))

    def old(content: bytes, path: Path) -> None:
        call = _Call(os.mkdir, str(path.parent.parent / "executed"))
        torch.save({"state_dict": call}, path, _use_new_zipfile_serialization=False)

    yield Case("pickle that executes", "a bare pickle", write=bare, weights=True)
    yield Case("pickle that executes", "in a file of old PyTorch", write=old, weights=True)
    for name, value in (("sparse", torch.eye(3).to_sparse()), ("meta", torch.zeros(3, device="meta"))):
        yield Case("pickle that executes", f"a {name} tensor", put("callbacks", "more", value=value), weights=True)


def structures() -> Iterator[Case]:
    for name, value in (("a list", [1]), ("an integer", 7), ("a string", "x"), ("None", None), ("empty", {})):
        spoil = (lambda content, folder: torch.zeros(2)) if value is None else instead(value)
        yield Case("wrong structure", f"the whole is {name}", spoil, weights=True)
    weights: tuple[Any, ...] = (None, [1, 2], 5, "x")
    for value in weights:
        yield Case("wrong structure", f"state_dict {value}", put("state_dict", value=value), weights=True)
    for value in ("x", None, 3, {}, [torch.zeros(2)]):
        yield Case("wrong structure", f"weight {value}", put("state_dict", WEIGHT, value=value), weights=True)
    many: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...] = (
        (("optimizer_states",), (None, 5, {}, [None], [], "x")),
        ((*GROUPS,), (None, [], "x", [1, 2])),
        ((*STATE,), (None, [], {}, "x")),
        (("lr_schedulers",), ("x", None)),
        (("callbacks",), (None, [], "x", {5: {}}, {"A": 3})),
        (("loops",), (None, 5, "x", [], {})),
        (LOOP, ("x", None, 5, {})),
        ((*LOOP, "epoch_progress"), (None, 5, {"current": 1})),
        ((*LOOP, "state_dict"), (None, 5, {})),
        ((*LOOP, "epoch_loop.batch_progress", "is_last_batch"), (None, 3)),
        (("diffmavil",), (None, "x", [], {})),
        (("pytorch-lightning_version",), (None, 3, "x", "0.9.0", "99.0.0")),
    )
    for keys, values in many:
        for value in values:
            yield Case("wrong structure", f"{named(*keys)} {value}", put(*keys, value=value))
    yield Case("wrong structure", "two optimisers", put("optimizer_states", value=lambda states: states * 2))
    yield Case("wrong structure", "fewer groups", put(*GROUPS, value=lambda groups: groups[:1]))
    yield Case("wrong structure", "more groups", put(*GROUPS, value=lambda groups: [*groups, groups[0]]))
    yield Case("wrong structure", "group without one", put(*GROUPS, 0, "params", value=lambda numbers: numbers[1:]))
    yield Case("wrong structure", "number twice", put(*GROUPS, 0, "params", 0, value=lambda number: number + 1))
    yield Case("wrong structure", "number a string", put(*GROUPS, 0, "params", 0, value="x"))


def missing() -> Iterator[Case]:
    for key in ("state_dict", "diffmavil", "pytorch-lightning_version", "global_step", "epoch"):
        yield Case("missing part", key, drop(key), weights=True)
    for key in ("optimizer_states", "lr_schedulers", "callbacks", "loops", "ClipDataModule"):
        yield Case("missing part", key, drop(key))
    yield Case("missing part", "a weight", drop("state_dict", WEIGHT), weights=True)
    for key in ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict", "state_dict"):
        yield Case("missing part", named(*LOOP, key), drop(*LOOP, key))
    yield Case("missing part", "current", drop(*LOOP, "epoch_progress", "current"))
    yield Case("missing part", "ready", drop(*LOOP, "epoch_progress", "current", "ready"))
    progress = (*LOOP, "epoch_loop.automatic_optimization.optim_progress", "optimizer")
    yield Case("missing part", "optimiser's steps", drop(*progress, "step"))
    yield Case("missing part", "loader's epoch", drop(*LOOP, "state_dict", "combined_loader", 0, "epoch"))
    yield Case("missing part", "loader", put(*LOOP, "state_dict", "combined_loader", value=[]))
    for key in ("exp_avg", "exp_avg_sq", "step"):
        yield Case("missing part", key, drop(*STATE, 0, key))

    def weights_only(content: Content, folder: Path) -> None:
        for key in ("optimizer_states", "lr_schedulers", "callbacks"):
            del content[key]

    yield Case("missing part", "as save_weights_only writes it", weights_only)
    yield Case("missing part", "skipped", drop("ClipDataModule", "skipped"))
    yield Case("missing part", "EarlyStopping's count", _early_stopping(lambda state: state.pop("wait_count")))


def _early_stopping(change: Callable[[Content], Any]) -> Callable[[Any, Path], None]:
    def spoil(content: Content, folder: Path) -> None:
        for name, state in content["callbacks"].items():
            if name.startswith("EarlyStopping"):
                change(state)

    return spoil


def tensors() -> Iterator[Case]:
    def weight(kind: str, name: str, change: Callable[[torch.Tensor], Any]) -> Case:
        return Case(kind, f"weight {name}", put("state_dict", WEIGHT, value=change), weights=True)

    def moment(kind: str, name: str, change: Callable[[torch.Tensor], Any], key: str = "exp_avg") -> Case:
        return Case(kind, f"{key} {name}", put(*STATE, 0, key, value=change))

    wrong = "wrong shape or dtype"
    yield weight(wrong, "complex", lambda x: x.to(torch.complex64))
    yield weight(wrong, "int64", lambda x: x.to(torch.int64))
    yield weight(wrong, "bool", lambda x: x > 0)
    yield weight(wrong, "transposed", lambda x: x.T.contiguous())
    yield weight(wrong, "of one more", lambda x: torch.zeros(x.shape[0] + 1, x.shape[1]))
    yield weight(wrong, "empty", lambda x: x[:0].clone())
    yield weight(wrong, "scalar", lambda x: torch.tensor(1.0))
    for key in ("exp_avg", "exp_avg_sq"):
        yield moment(wrong, "(3,)", lambda x: torch.zeros(3), key)
        yield moment(wrong, "transposed", lambda x: x.T.contiguous(), key)
        yield moment(wrong, "int64", lambda x: x.to(torch.int64), key)
        yield moment(wrong, "None", lambda x: None, key)
        yield moment(wrong, "a float", lambda x: 0.0, key)
    yield moment(wrong, "(2, 2)", lambda x: torch.ones(2, 2), "step")
    yield moment(wrong, "a string", lambda x: "x", "step")
    yield Case(
        wrong,
        "all moments (3,)",
        put(*STATE, value=lambda s: {k: {**v, "exp_avg": torch.zeros(3)} for k, v in s.items()}),
    )
    many = "expanded tensor"
    yield weight(many, "of one number", lambda x: torch.zeros(1, 1).expand(x.shape))
    yield weight(many, "of a row", lambda x: x[:1].clone().expand(x.shape))
    yield weight(many, "of 10**11", lambda x: torch.zeros(1).expand(10**11))
    yield moment(many, "of one number", lambda x: torch.zeros(1, 1).expand(x.shape))
    yield moment(many, "of 10**11", lambda x: torch.zeros(1).expand(10**11))
    yield moment(many, "of 10**11", lambda x: torch.zeros(1).expand(10**11), "step")
    nan = "NaN or infinity"
    for value in (float("nan"), float("inf"), float("-inf")):
        yield weight(nan, f"{value}", lambda x, value=value: torch.full_like(x, value))
        yield moment(nan, f"{value}", lambda x, value=value: torch.full_like(x, value))
        yield moment(nan, f"{value}", lambda x, value=value: torch.full_like(x, value), "exp_avg_sq")
        yield moment(nan, f"{value}", lambda x, value=value: torch.tensor(value), "step")

    def one(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[-1, -1] = float("nan")
        return x

    yield weight(nan, "with one NaN", one)
    yield moment("negative count", "negative", lambda x: -1 - x, "exp_avg_sq")
    yield moment("negative count", "negative", lambda x: torch.tensor(-4.0), "step")


def counts() -> Iterator[Case]:
    kind = "negative count"
    for key in ("epoch", "global_step"):
        for value in (-1, "3", 1.5, True, None, 10**30, 10**12):
            yield Case(kind, f"{key} {value}", put(key, value=value))
    step = (*LOOP, "epoch_loop.automatic_optimization.optim_progress", "optimizer", "step", "total", "completed")
    places = (
        (*LOOP, "epoch_progress", "current", "completed"),
        (*LOOP, "epoch_loop.batch_progress", "current", "ready"),
        step,
        (*LOOP, "epoch_loop.state_dict", "_batches_that_stepped"),
    )
    for place in places:
        for value in (-3, "3", 2.5):
            yield Case(kind, f"{named(*place)} {value}", put(*place, value=value))
    loader = (*LOOP, "state_dict", "combined_loader", 0)
    for key in ("epoch", "batches"):
        for value in (-5, 10**15, "x", None, 1.0):
            yield Case(kind, f"loader's {key} {value}", put(*loader, key, value=value))
    for key in ("global_batch", "clips", "order"):
        for value in (-1, "x"):
            yield Case(kind, f"loader's {key} {value}", put(*loader, key, value=value))
    for value in (-1, "x", None, 2.5, float("nan")):
        change = _early_stopping(lambda state, value=value: state.update(wait_count=value))
        yield Case(kind, f"EarlyStopping's count {value}", change)


def states() -> Iterator[Case]:
    kind = "state of callbacks, data, module"
    accounting = ("callbacks", "ComputeAccounting", "epochs")
    for value in (None, 3, [1], [{"epoch": 0}]):
        yield Case(kind, f"ComputeAccounting {value}", put(*accounting, value=value))
    yield Case(kind, "ComputeAccounting negative", put(*accounting, 0, "clips", value=-3))
    deep: Any = []
    for _ in range(300):  # as deep as torch.save can go
        deep = [deep]
    yield Case(kind, "300 lists deep", put("callbacks", "ComputeAccounting", "more", value=deep))
    skip = {"index": 0, "path": "a", "reason": "empty file", "detail": ""}
    for value in ("x", [1], [{}], [skip | {"index": -1}], [skip | {"reason": "\x1b[2J"}], [skip | {"path": None}]):
        yield Case(kind, f"skipped {str(value)[:40]!r}", put("ClipDataModule", "skipped", value=value))
    for key, values in (
        ("mask_ratios", (2, [1], [1.5, 0.5], [float("nan"), 0.5], ["a", "b"], [-0.5, 0.5])),
        ("classes", (3, [1], "x")),
        ("halved", ("x", 3)),
        ("version", (None, 5)),
    ):
        for value in values:
            yield Case(kind, f"{key} {value}", put("diffmavil", key, value=value), weights=True)
    for key, values in (
        ("best_model_score", ("x", [1])),
        ("best_k_models", (3, {"a": "b"})),
        ("best_model_path", (5,)),
    ):
        for value in values:

            def spoil(content: Content, folder: Path, key: str = key, value: Any = value) -> None:
                for name, state in content["callbacks"].items():
                    if name.startswith(CHECKPOINT):
                        state[key] = value

            yield Case(kind, f"ModelCheckpoint {key} {value}", spoil)
    kind = "foreign module"
    for module in ("FineTuneModule", "os.system", "", 5, "\x1b[2J" * 1000):
        yield Case(kind, repr(module)[:30], put("diffmavil", "module", value=module), weights=True)
    yield Case(kind, "weights alone", lambda content, folder: content["state_dict"], weights=True)
    yield Case(kind, "weight too many", put("state_dict", value=lambda s: {**s, "more": torch.zeros(2)}), weights=True)
    yield Case(
        kind, "weight that is named 5", put("state_dict", value=lambda s: {**s, 5: torch.zeros(2)}), weights=True
    )


def files() -> Iterator[Case]:
    def flip(share: float) -> Callable[[bytes, Path], None]:
        def write(content: bytes, path: Path) -> None:
            spoiled = bytearray(content)
            spoiled[int(share * (len(content) - 1))] ^= 16
            path.write_bytes(spoiled)

        return write

    def member(name: str, share: float) -> Callable[[bytes, Path], None]:
        """A bit of a member itself, not of what lies around it."""

        def write(content: bytes, path: Path) -> None:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                (info,) = (info for info in archive.infolist() if info.filename.endswith(name))
            length, extra = struct.unpack("<HH", content[info.header_offset + 26 : info.header_offset + 30])
            begin = info.header_offset + 30 + length + extra
            flip((begin + share * (info.file_size - 1)) / (len(content) - 1))(content, path)

        return write

    for k in range(20):
        yield Case("flipped bit", f"at {k}/19", write=flip(k / 19), weights=True)
    for name in ("/data.pkl", "/data/0", "/data/10", "/data/50", "/version", "/byteorder"):
        for share in (0.0, 0.5, 1.0) if "data" in name else (0.0,):
            yield Case("flipped bit", f"in {name} at {share}", write=member(name, share), weights=True)

    def cut(share: float) -> Callable[[bytes, Path], None]:
        return lambda content, path: (path.write_bytes(content[: int(share * len(content))]), None)[1]

    for share in (0.0, 1e-6, 0.001, 0.3, 0.9, 0.9999):
        yield Case("cut short or longer", f"{share} of it", write=cut(share), weights=True)

    def longer(content: bytes, path: Path) -> None:
        path.write_bytes(content + b"more")

    def behind(content: bytes, path: Path) -> None:
        path.write_bytes(b"before" + content)

    yield Case("cut short or longer", "more behind", write=longer, weights=True)
    yield Case("cut short or longer", "more before", write=behind, weights=True)
    yield from bombs()
    kind = "no file, or another"
    yield Case(kind, "text", write=lambda content, path: (path.write_text("no checkpoint"), None)[1], weights=True)
    yield Case(kind, "noise", write=lambda c, path: (path.write_bytes(os.urandom(10**5)), None)[1], weights=True)
    yield Case(kind, "folder", write=lambda content, path: path.mkdir(), weights=True)
    yield Case(kind, "pipe", write=lambda content, path: os.mkfifo(path), weights=True)
    yield Case(kind, "device", write=lambda content, path: path.symlink_to("/dev/zero"), weights=True)
    yield Case(kind, "link to nowhere", write=lambda content, path: path.symlink_to("nowhere"), weights=True)


def rewritten(content: bytes, path: Path, change: Callable[[str, bytes], bytes], **how: Any) -> None:
    """A checkpoint whose members are written anew."""
    with zipfile.ZipFile(io.BytesIO(content)) as good, zipfile.ZipFile(path, "w", **how) as archive:
        for name in good.namelist():
            archive.writestr(name, change(name, good.read(name)))


def bombs() -> Iterator[Case]:
    kind = "bomb, or sizes that lie"

    def same(name: str, data: bytes) -> bytes:
        return data

    def compressed(content: bytes, path: Path) -> None:
        rewritten(content, path, same, compression=zipfile.ZIP_DEFLATED, compresslevel=1)

    def huge(content: bytes, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("archive/data.pkl", "w", force_zip64=True) as file:
                file.write(b"\x80\x02")
                for _ in range(300):
                    file.write(b"(" * 10**6)
            archive.writestr("archive/version", "3")

    def declared(content: bytes, path: Path) -> None:
        """The first storage claims 65535 elements, where torch.load maps into memory what lies behind it, too."""
        number = content.index(b"M", content.index(b"cpu", content.index(b"storage")))
        pickled = content[: number + 1] + b"\xff\xff" + content[number + 3 :]
        with zipfile.ZipFile(io.BytesIO(content)) as good:
            (name,) = (name for name in good.namelist() if name.endswith("data.pkl"))
            old = good.read(name)
        begin = content.index(old)
        rewritten(content, path, lambda n, data: pickled[begin : begin + len(old)] if n == name else data)

    def twice(content: bytes, path: Path) -> None:
        rewritten(content, path, same)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(archive.namelist()[0].replace("data.pkl", "DATA.pkl"), b"N.")

    def sizes(content: bytes, path: Path) -> None:
        """All members declare 3 GB in the table at the file's end."""
        spoiled, begin = bytearray(content), 0
        while (begin := spoiled.find(b"PK\x01\x02", begin)) >= 0:
            spoiled[begin + 20 : begin + 28] = struct.pack("<II", 3 * 10**9, 3 * 10**9)
            begin += 4
        path.write_bytes(spoiled)

    def endless(content: bytes, path: Path) -> None:
        """Memoises to the highest place there is."""
        pickled = b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."
        rewritten(content, path, lambda name, data: pickled if name.endswith("data.pkl") else data)

    def large_integer(content: bytes, path: Path) -> None:
        pickled = b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"."
        rewritten(content, path, lambda name, data: pickled if name.endswith("data.pkl") else data)

    def many(content: bytes, path: Path) -> None:
        pickled = b"\x80\x02](" + b"}" * 20_000_000 + b"e."
        rewritten(content, path, lambda name, data: pickled if name.endswith("data.pkl") else data)

    yield Case(kind, "compressed", write=compressed, weights=True)
    yield Case(kind, "300 MB in 1 MB", write=huge, weights=True)
    yield Case(kind, "a storage declares more than it has", write=declared, weights=True)
    yield Case(kind, "a member twice", write=twice, weights=True)
    yield Case(kind, "all members declare 3 GB", write=sizes, weights=True)
    yield Case(kind, "memo of 2**31", write=endless, weights=True)
    yield Case(kind, "an integer of a million bytes", write=large_integer, weights=True)
    yield Case(kind, "20 million mappings", write=many, weights=True)
    laughs: Any = "ha"
    for _ in range(40):
        laughs = [laughs] * 10
    yield Case(kind, "40 levels of 10 aliases", put("callbacks", "ComputeAccounting", "epochs", value=laughs))
    yield Case(kind, "40 levels as a weight", put("state_dict", WEIGHT, value=laughs), weights=True)
    yield Case(kind, "40 levels as a module", put("diffmavil", "module", value=laughs), weights=True)


def cases() -> list[Case]:
    """All of them."""
    makers = (paths, code, structures, missing, tensors, counts, states, files)
    return [case for maker in makers for case in maker()]
