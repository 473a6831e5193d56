"""Whether a checkpoint file is whole, and no larger than it looks: found out before anything in it is built."""

from __future__ import annotations

import pickletools
import re
import struct
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from torch.serialization import get_safe_globals

MAX_INSTRUCTIONS: Final = 10_000_000
"""Instructions of a pickle; a checkpoint of the largest model has some hundred thousand."""

_ZIP_BEGINS, _ZIP_ENDS = b"PK\x03\x04", b"PK\x05\x06"
_ZIP_END, _ZIP64_AT, _ZIP64_ENDS = (struct.Struct(form) for form in ("<4s4H2LH", "<4sLQL", "<4sQ2H2L4Q"))
"""The last record of a zip file; and the two that precede it in those that are larger than 4 GB."""

_MARK: Final = object()
"""Stands for a pickle's opening bracket."""

_STUMBLES: Final = (BadZipFile, EOFError, LookupError, MemoryError, OverflowError, RuntimeError, struct.error)
"""What Python's zip reader raises over a file that is damaged."""

_ITEM_BYTES: Final = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
"""Bytes of an element of torch's storages."""

_WRITTEN: Final = {
    *("PROTO", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "SHORT_BINSTRING"),
    *("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "NEWOBJ", "REDUCE", "BUILD"),
}
"""The other instructions that PyTorch's own reader of tensors and plain values knows."""

_PLAIN: Final = {
    "_codecs encode",
    "__builtin__ complex",
    "__builtin__ set",
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch.nn.parameter Parameter",
    "torch.serialization _get_layout",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
}
"""What dense tensors and plain values are made with. PyTorch builds more: sparse, nested, quantised tensors."""


def check_file(path: Path) -> None:
    """Refuse a checkpoint file that is damaged, or declares more than it holds.

    PyTorch looks at no checksum, and believes sizes. Files of PyTorch before 1.6 are no zip files and have no
    checksums; they are left alone.

    Args:
        path: The file.

    Raises:
        ValueError: If so; the message says what is wrong.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_BEGINS)) == _ZIP_BEGINS:
            check_archive(file, path.stat().st_size)


def check_archive(file: BufferedIOBase, file_bytes: int, *, plain: bool = False) -> None:
    """Refuse a file of PyTorch's, or a part of a file, as :func:`check_file` does, and what is no zip file.

    Args:
        file: Where it can be read.
        file_bytes: Its bytes.
        plain: Whether it may hold no tensor and no object, but plain values only.

    Raises:
        ValueError: If it is to be refused; the message says why.
    """
    file.seek(0)
    begins = file.read(len(_ZIP_BEGINS))
    file.seek(max(file_bytes - _ZIP64_ENDS.size - _ZIP64_AT.size - _ZIP_END.size, 0))
    end = file.read()
    if begins != _ZIP_BEGINS or not end[-_ZIP_END.size :].startswith(_ZIP_ENDS):
        raise ValueError("it is cut short, or has something behind its end")
    file.seek(0)
    try:
        with ZipFile(file) as archive:
            if _directory(end, file_bytes) != archive.start_dir:
                raise ValueError("it has two lists of its members")
            sizes = _sizes(archive, file_bytes)
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged: it does not have its checksum")
            root = next(iter(sizes)).partition("/")[0]
            _check_pickle(archive.read(f"{root}/data.pkl"), root, sizes, plain=plain)
    except _STUMBLES as error:
        raise ValueError("it is damaged, or no file of tensors") from error


def _directory(end: bytes, file_bytes: int) -> int:
    """Where the list of members begins, as PyTorch reads it: Python's reader looks right before the end instead.

    Raises:
        ValueError: If the end of the file says that it is to be looked for elsewhere.
    """
    *_, begins, comment_bytes = _ZIP_END.unpack(end[-_ZIP_END.size :])
    if comment_bytes:
        raise ValueError("it has something behind its end")
    signature, _, place, _ = _ZIP64_AT.unpack(end[-_ZIP_END.size - _ZIP64_AT.size : -_ZIP_END.size])
    if signature == b"PK\x06\x07":
        if place != file_bytes - len(end):
            raise ValueError("it has two lists of its members")
        begins = _ZIP64_ENDS.unpack(end[: _ZIP64_ENDS.size])[-1]
    return int(begins)


def _sizes(archive: ZipFile, file_bytes: int) -> dict[str, int]:
    """Bytes of each member, by name."""
    members = archive.infolist()
    names = {member.filename.casefold() for member in members}  # PyTorch tells no capitals from small letters
    roots = {member.filename.partition("/")[0] for member in members}
    if len(names) != len(members) or len(roots) != 1:
        raise ValueError("its members' names are not those of a file of tensors")
    for member in members:
        if member.compress_type != ZIP_STORED or member.compress_size != member.file_size or member.flag_bits & 1:
            raise ValueError(f"{member.filename} is compressed, as PyTorch writes nothing")
    if sum(member.file_size for member in members) > file_bytes:
        raise ValueError("its members declare more bytes than it has")
    return {member.filename: member.file_size for member in members}


def _check_pickle(pickle: bytes, root: str, sizes: dict[str, int], *, plain: bool) -> None:
    """Refuse anything but tensors and plain values, and a tensor with more or fewer bytes than are there for it.

    Raises:
        ValueError: If so.
    """
    trusted = {
        f"{thing.__module__} {thing.__qualname__}" for thing in get_safe_globals() if not isinstance(thing, tuple)
    }
    for name in _instructions(pickle):
        if plain:
            raise ValueError("it holds something else than plain values")
        if isinstance(name, str):
            if not (name in _PLAIN or name in trusted or _is_storage(name) or is_dtype(name)):
                raise ValueError(
                    f"it holds {name.replace(' ', '.')!r:.80}, which is neither a tensor nor a plain value"
                )
            continue
        kind, key, count = name
        record, needed = f"{root}/data/{key}", count * _ITEM_BYTES[kind]
        if sizes.get(record) != needed:
            raise ValueError(f"a tensor in it declares {needed} bytes, {record:.80} has {sizes.get(record, 0)}")


def _is_storage(name: str) -> bool:
    module, _, kind = name.partition(" ")
    return module in ("torch", "torch.storage") and kind in _ITEM_BYTES


def is_dtype(name: str) -> bool:
    """Whether a name in a pickle, of a module and what is in it, is that of one of PyTorch's plain dtypes."""
    return re.fullmatch(r"torch (u?int|b?float|complex)\d+|torch bool", name) is not None


def _instructions(pickle: bytes) -> Iterator[str | tuple[str, str, int]]:
    """What a pickle names and which storages it asks for: each as its class, its key and its number of elements.

    Read, not run: whatever is not written exactly as PyTorch writes it is an error.

    Raises:
        ValueError: If so.
    """
    memo: dict[int, Any] = {}
    recent: list[Any] = []  # the constants since the last opening bracket, and the brackets
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
        if count > MAX_INSTRUCTIONS:
            raise ValueError(f"it is a pickle of more than {MAX_INSTRUCTIONS} instructions")
        name = opcode.name
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = recent[-1] if recent else None
            continue
        if name == "MARK":
            recent = [_MARK]
        elif name in ("BINGET", "LONG_BINGET"):
            recent.append(memo.get(argument))
        elif name == "GLOBAL":
            yield argument
            recent.append((argument,))
        elif name in ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"):
            if isinstance(argument, int) and argument.bit_length() > 63:
                raise ValueError("it holds an integer of more than 64 bits")
            recent.append(argument)
        elif name == "TUPLE":
            recent = [tuple(recent)]
        elif name == "BINPERSID":
            yield _storage(recent)
            recent = [None]
        elif name in _WRITTEN:
            recent = [None]
        else:
            raise ValueError(f"it is a pickle with {name}, which PyTorch does not write")


def _storage(recent: list[Any]) -> tuple[str, str, int]:
    match recent:
        case [(mark, "storage", (str(kind),), str(key), str(), int(count))] if mark is _MARK and _is_storage(kind):
            return kind.partition(" ")[2], key, count
    raise ValueError("a tensor in it is not written as PyTorch writes it")
