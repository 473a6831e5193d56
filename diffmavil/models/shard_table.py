"""The table of contents of a folder of shards (``.metadata``), which PyTorch writes as a pickle: read, not run.

Every instruction is followed here on stand-ins, and every object must be one of the few that PyTorch writes there, with
the fields that it has there. What this takes, PyTorch's own reader takes for the same, and makes nothing else of it.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from diffmavil.models.checkpoint_file import MAX_INSTRUCTIONS, is_dtype

_OF: Final = "torch.distributed.checkpoint.metadata"
_TABLE, _TENSOR, _CHUNK, _PLAIN, _KEY, _ENTRY, _ABOUT, _PROPERTIES = (
    f"{_OF} Metadata",
    f"{_OF} TensorStorageMetadata",
    f"{_OF} ChunkStorageMetadata",
    f"{_OF} BytesStorageMetadata",
    f"{_OF} MetadataIndex",
    "torch.distributed.checkpoint.filesystem _StorageInfo",
    f"{_OF} StorageMeta",
    f"{_OF} TensorProperties",
)
_FIELDS: Final = {
    _TABLE: {"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"},
    _TENSOR: {"properties", "size", "chunks"},
    _CHUNK: {"offsets", "sizes"},
    _PLAIN: set(),
    _KEY: {"fqn", "offset", "index"},
    _ENTRY: {"relative_path", "offset", "length"},  # no transform_descriptors: nothing of ours is compressed
    _ABOUT: {"checkpoint_id", "save_id", "load_id", "modules"},
    _PROPERTIES: set(),
}
"""Objects with a state, and the names in it."""

_SIZE, _LAYOUT, _ORDER = "torch Size", "torch.serialization _get_layout", f"{_OF} _MEM_FORMAT_ENCODING"
_PATHS: Final = ("pathlib PosixPath", "pathlib._local PosixPath")
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES: Final = ("SHORT_BINUNICODE", "BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1")
_MAX_INTEGER: Final = 2**63 - 1
_STUMBLES: Final = (ValueError, LookupError, TypeError, EOFError, OverflowError, MemoryError, struct.error)


class Entry(NamedTuple):
    """Where a value lies.

    Args:
        key: Name of the value.
        file: Name of the file.
        offset: First byte.
        num_bytes: Bytes.
        is_plain: Whether it is a plain value, not a tensor or a part of one.
    """

    key: str
    file: str
    offset: int
    num_bytes: int
    is_plain: bool


class _Pairs(list[tuple[Any, Any]]):
    """Items of a dictionary: nothing is hashed."""


@dataclass(eq=False)
class _Global:
    name: str


@dataclass(eq=False)
class _Object:
    kind: str
    state: dict[str, Any] | None = None


@dataclass(eq=False)
class _Size:
    sizes: tuple[int, ...]


@dataclass(eq=False)
class _Other:
    """A layout, an order of the elements, or a path."""

    kind: str


def read_table(content: bytes) -> list[Entry]:
    """Where the values lie that a folder of shards holds.

    Args:
        content: What ``.metadata`` holds.

    Raises:
        ValueError: If it is no such table, or holds anything that does not belong there.
    """
    try:
        entries = _entries(_follow(content))
    except _STUMBLES as error:
        raise ValueError(str(error) if isinstance(error, _Refused) else "it is damaged") from error
    try:
        pickle.loads(content)  # as PyTorch is going to: all that it makes is known by now
    except Exception as error:
        raise ValueError("it is damaged") from error
    return entries


class _Refused(ValueError):
    pass


def _follow(content: bytes) -> Any:
    """What a pickle would make, of stand-ins."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # what lies under each open bracket
    memo: dict[int, Any] = {}
    argument: Any
    end: Any = None
    for count, (opcode, argument, end) in enumerate(pickletools.genops(content)):  # noqa: B007
        if count > MAX_INSTRUCTIONS:
            raise _Refused(f"it is a pickle of more than {MAX_INSTRUCTIONS} instructions")
        name = opcode.name
        if name in _VALUES:
            if isinstance(argument, int) and abs(argument) > _MAX_INTEGER:
                raise _Refused("it holds an integer of more than 64 bits")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append(_Pairs())
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            items, stack = stack, below.pop()
            _collect(name, items, stack)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count_of_items = int(name[-1])
            stack[-count_of_items:] = [tuple(_last(stack, count_of_items))]
        elif name in ("APPEND", "SETITEM"):
            items = _last(stack, 1 if name == "APPEND" else 2)
            del stack[-len(items) :]
            _collect(name + "S", items, stack)
        elif name == "STACK_GLOBAL":
            module, attribute = _last(stack, 2)
            stack[-2:] = [_global(module, attribute)]
        elif name in ("NEWOBJ", "REDUCE"):
            function, arguments = _last(stack, 2)
            stack[-2:] = [_made(name, function, arguments)]
        elif name == "BUILD":
            made, state = _last(stack, 2)
            del stack[-1]
            _build(made, state)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _Refused(f"it is a pickle with {name}, which PyTorch does not write there")
    if below or len(stack) != 1 or end + 1 != len(content):
        raise _Refused("it is damaged, or has something behind its end")
    return stack[0]


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise _Refused("it is damaged")
    return stack[-count:]


def _collect(name: str, items: list[Any], stack: list[Any]) -> None:
    """Close a bracket, or add to what lies under it."""
    if name == "TUPLE":
        stack.append(tuple(items))
    elif name == "APPENDS" and type(stack[-1]) is list:
        stack[-1].extend(items)
    elif name == "SETITEMS" and type(stack[-1]) is _Pairs and len(items) % 2 == 0:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not (isinstance(key, str) or (isinstance(key, _Object) and key.kind == _KEY and key.state)):
                raise _Refused("a key in it is no name")
            stack[-1].append((key, value))
    else:
        raise _Refused("it is damaged")


def _global(module: Any, attribute: Any) -> _Global:
    name = f"{module} {attribute}"
    known = name in _FIELDS or name in (_SIZE, _LAYOUT, _ORDER, *_PATHS) or is_dtype(name)
    if not (isinstance(module, str) and isinstance(attribute, str) and known):
        raise _Refused(f"it holds {f'{module}.{attribute}'[:60]!r}, which does not belong there")
    return _Global(name)


def _made(how: str, function: Any, arguments: Any) -> Any:
    """What is made of a class or function that PyTorch would call."""
    if not isinstance(function, _Global):
        raise _Refused("it calls what is no class")
    match how, function.name, arguments:
        case "NEWOBJ", kind, () if kind in _FIELDS:
            return _Object(kind, {} if kind == _PLAIN else None)
        case "REDUCE", str(kind), (tuple(sizes),) if kind == _SIZE and all(_is_count(size) for size in sizes):
            return _Size(sizes)
        case "REDUCE", str(kind), ("torch.strided",) if kind == _LAYOUT:
            return _Other(kind)
        case "REDUCE", str(kind), (0 | 1 | 2,) if kind == _ORDER:
            return _Other(kind)
        case "REDUCE", str(kind), tuple(parts) if kind in _PATHS and all(isinstance(part, str) for part in parts):
            return _Other(kind)
    raise _Refused(f"it makes a {function.name.rpartition(' ')[2]} as PyTorch does not")


def _build(made: Any, state: Any) -> None:
    """Give an object its fields, once."""
    if not isinstance(made, _Object) or made.state is not None:
        raise _Refused("it changes what is no new object")
    if made.kind == _PROPERTIES:
        match state:
            case (_Global(), _Other(kind=layout), bool(), _Other(kind=order), bool()) if layout == _LAYOUT:
                if order == _ORDER and is_dtype(state[0].name):
                    made.state = {"dtype": state[0].name}
                    return
    elif type(state) is _Pairs:
        made.state = {key: value for key, value in state if isinstance(key, str)}
        if len(made.state) == len(state) and made.state.keys() <= _FIELDS[made.kind]:
            return
    raise _Refused(f"its {made.kind.rpartition(' ')[2]} has other fields than PyTorch's")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _fields(thing: Any, kind: str) -> dict[str, Any]:
    """Fields of an object; those that are not there are its class's, which are ``None``."""
    if not isinstance(thing, _Object) or thing.kind != kind or thing.state is None:
        raise _Refused(f"it has something else where a {kind.rpartition(' ')[2]} belongs")
    return {**dict.fromkeys(_FIELDS[kind]), **thing.state}


def _pairs(thing: Any, what: str) -> _Pairs:
    if type(thing) is not _Pairs:
        raise _Refused(f"its {what} is no dictionary")
    return thing


def _entries(thing: Any) -> list[Entry]:
    table = _fields(thing, _TABLE)
    _check_about(table)
    expected: dict[tuple[str, tuple[int, ...] | None], bool] = {}
    for key, value in _pairs(table["state_dict_metadata"], "state_dict_metadata"):
        is_plain = isinstance(value, _Object) and value.kind == _PLAIN
        for place in [None] if is_plain else _chunks(value):
            if not isinstance(key, str) or (key, place) in expected:
                raise _Refused("it names a value twice")
            expected[key, place] = is_plain
    entries = []
    for key, value in _pairs(table["storage_data"], "storage_data"):
        index, lies = _fields(key, _KEY), _fields(value, _ENTRY)
        fqn, offset = index["fqn"], index["offset"]
        where = (fqn, offset.sizes if isinstance(offset, _Size) else None)
        if not isinstance(fqn, str) or not (offset is None or isinstance(offset, _Size)) or where not in expected:
            raise _Refused("it places a value that it does not name, or twice")
        if not (index["index"] is None or _is_count(index["index"])):
            raise _Refused("an index in it is no number")
        file, start, num_bytes = lies["relative_path"], lies["offset"], lies["length"]
        if not (isinstance(file, str) and _is_count(start) and _is_count(num_bytes)):
            raise _Refused("a place in it is none")
        entries.append(Entry(fqn, file, start, num_bytes, expected.pop(where)))
    if expected:
        raise _Refused(f"it says not where {next(iter(expected))[0][:60]!r} lies")
    return entries


def _chunks(thing: Any) -> list[tuple[int, ...]]:
    """Where the parts of a tensor begin."""
    tensor = _fields(thing, _TENSOR)
    _fields(tensor["properties"], _PROPERTIES)
    size = tensor["size"]
    if not isinstance(size, _Size) or type(tensor["chunks"]) is not list:
        raise _Refused("a tensor in it has no size or no parts")
    places = []
    for chunk in tensor["chunks"]:
        part = _fields(chunk, _CHUNK)
        offsets, sizes = part["offsets"], part["sizes"]
        if not (isinstance(offsets, _Size) and isinstance(sizes, _Size)):
            raise _Refused("a part of a tensor in it has no size or no place")
        ends = [offset + length for offset, length in zip(offsets.sizes, sizes.sizes, strict=True)]
        if not all(end <= whole for end, whole in zip(ends, size.sizes, strict=True)):
            raise _Refused("a part of a tensor in it lies outside the tensor")
        places.append(offsets.sizes)
    return places


def _check_about(table: dict[str, Any]) -> None:
    """Refuse anything but names in what the table says of itself and of the dictionaries that it was made from."""
    texts = [table["version"]]
    if table["storage_meta"] is not None:
        about = _fields(table["storage_meta"], _ABOUT)
        identity, modules = about["checkpoint_id"], about["modules"]
        texts += [about["save_id"], about["load_id"], None if isinstance(identity, _Other) else identity]
        texts += modules if type(modules) is list else [] if modules is None else [modules]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise _Refused("what it says of itself is no text")
    if table["planner_data"] is None:
        return
    for key, path in _pairs(table["planner_data"], "planner_data"):
        if not (isinstance(key, str) and type(path) is tuple and all(type(part) in (str, int) for part in path)):
            raise _Refused("its planner_data holds other things than names")
