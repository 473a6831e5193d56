"""Whether nothing of a file is missing, as its structure shows: FFmpeg leaves out damaged parts without a word.

Each walk takes a path and what it calls at each step, which may raise at a deadline. A malformed file is not whole.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable
from functools import wraps
from math import inf
from typing import Any, BinaryIO, Final

import numpy as np

from diffmavil.data.errors import MediaError

Check = Callable[[], None]
"""Called at each step of a walk; raises ``MediaError`` when time is up."""

PAGE: Final = struct.Struct("<4sBBQIIIB")
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""Mark of the part of an ASF file's header that states its size."""

_CHUNK: Final = struct.Struct("<4sI")
_CHUNKS: Final = re.compile(rb"[0-9]{2}[a-z]{2}|ix[0-9]{2}|JUNK|junk|idx1|rec ")
"""Names of what an AVI file has beside its headers."""

_NESTED: Final = (b"movi", b"rec ")
"""Lists of an AVI file that are walked: the second in the first."""

_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_TOP: Final = frozenset({0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469})
_IN_CLUSTER: Final = frozenset({0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF})
_ANYWHERE: Final = frozenset({0xEC, 0xBF})
"""Elements of Matroska files: at the top of the segment, in a cluster, and in either."""


def walk(function: Callable[[BinaryIO, int, Check], bool]) -> Callable[..., bool]:
    """Give a walk the open file, its size and the check; what cannot be walked through is not whole."""

    @wraps(function)
    def is_whole(path: str, check: Check = lambda: None) -> bool:
        try:
            with open(path, "rb") as file:
                return function(file, os.path.getsize(path), check)
        except MediaError:
            raise
        except (ArithmeticError, LookupError, OSError, ValueError, struct.error):
            return False

    return is_whole


@walk
def is_whole_ogg(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether the pages follow each other to the file's end with right checksums, and each stream's numbers in a row.

    Source: RFC 3533, section 6.
    """
    numbers: dict[int, int] = {}
    while head := file.read(PAGE.size):
        check()
        mark, _, _, _, serial, number, checksum, segments = PAGE.unpack(head)
        lacing = file.read(segments)
        body = file.read(sum(lacing))
        if mark != b"OggS" or len(body) < sum(lacing):
            return False
        if _checksum(head[:22] + bytes(4) + head[26:] + lacing + body) != checksum:
            return False
        if number != numbers.setdefault(serial, number):
            return False
        numbers[serial] = number + 1
    return True


def _checksum(page: bytes) -> int:
    """CRC-32 with the highest bit first and nothing inverted; zlib's has the lowest first, and both ends inverted."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)


@walk
def is_whole_avi(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether chunk follows chunk to the file's end, each with a name that an AVI file may have."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        name, length = _CHUNK.unpack(file.read(8))
        if name != b"RIFF" or file.read(4) not in (b"AVI ", b"AVIX"):
            return False
        if not _is_list(file, at + 8 + length, size, check, _NESTED):
            return False
        at += 8 + length + length % 2
    return at >= size


def _is_list(file: BinaryIO, end: int, size: int, check: Check, nested: tuple[bytes, ...]) -> bool:
    """Whether chunks follow each other to just there; ``nested``: lists that may be in it, each in the one before."""
    at = file.tell()
    while at + 8 <= end <= size:
        check()
        name, length = _CHUNK.unpack(file.read(8))
        kind = file.read(4) if name == b"LIST" else b""
        if kind in _NESTED:
            if kind not in nested[:1] or not _is_list(file, at + 8 + length, size, check, nested[1:]):
                return False
        elif not kind and not _CHUNKS.fullmatch(name):
            return False
        at += 8 + length + length % 2
        file.seek(at)
    return end <= at <= end + 1


@walk
def is_whole_matroska(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether element follows element to the file's end, and those of a cluster to just its end.

    Source: RFC 8794, section 11, and RFC 9559, section 5.
    """
    at, cluster_end = 0, -1
    while at < size:
        check()
        file.seek(at)
        name, length, begin = _element(file.read(12))
        if begin == 0:
            return False
        in_cluster = at < cluster_end
        end = size if length is None else at + begin + length
        if name == _SEGMENT and not in_cluster:
            at += begin
        elif name == _CLUSTER and (not in_cluster or cluster_end == size):
            at, cluster_end = at + begin, end  # where it does not state its length, it lasts until the next one
        elif name in _ANYWHERE or (name in _IN_CLUSTER if in_cluster else name in _TOP | {_EBML}):
            at = end
        elif in_cluster and cluster_end == size and name in _TOP:
            at, cluster_end = end, -1
        else:
            return False
        if end > size or (in_cluster and at > cluster_end >= 0):
            return False
    return at == size


def _element(head: bytes) -> tuple[int, int | None, int]:
    """Name of an EBML element, its length, ``None`` if it states none, and the size of its header; 0 if it is none."""
    name_size = 9 - head[0].bit_length()
    if name_size > 4 or len(head) <= name_size:
        return 0, 0, 0
    length_size = 9 - head[name_size].bit_length()
    end = name_size + length_size
    if length_size > 8 or len(head) < end:
        return 0, 0, 0
    length = int.from_bytes(head[name_size:end], "big") & ((1 << 7 * length_size) - 1)
    is_stated = length != (1 << 7 * length_size) - 1
    return int.from_bytes(head[:name_size], "big"), length if is_stated else None, end


@walk
def is_whole_flash(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether tag follows tag to the file's end, each with its size before and after it.

    Source: Adobe Flash Video File Format Specification 10.1, annex E.
    """
    at = 13
    while at + 15 <= size:
        check()
        file.seek(at)
        length = int.from_bytes(file.read(4)[1:], "big")
        at += 11 + length
        file.seek(at)
        if int.from_bytes(file.read(4), "big") != 11 + length:
            return False
        at += 4
    return at == size


@walk
def is_whole_asf(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether the file has the size that its header states, and packets of one size, each with its mark.

    Source: Advanced Systems Format, sections 3.2 and 5.2.
    """
    head = file.read(1 << 16)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or int.from_bytes(head[at + 40 : at + 48], "little") != size:
        return False
    count = int.from_bytes(head[at + 56 : at + 64], "little")
    length = int.from_bytes(head[at + 92 : at + 96], "little")
    begin = int.from_bytes(head[16:24], "little") + 50  # behind the header, and what the data begin with
    if length == 0 or begin + count * length > size:
        return False
    for packet in range(count):
        check()
        file.seek(begin + packet * length)
        if file.read(3) != b"\x82\0\0":
            return False
    return True


@walk
def is_whole_program_stream(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether one packet of an MPEG program stream follows the other to the file's end.

    Source: ISO/IEC 13818-1, section 2.5.3, and 11172-1, section 2.4.3.
    """
    at = 0
    while at + 4 <= size:
        check()
        file.seek(at)
        head = file.read(14).ljust(14, b"\0")
        if head[:3] != b"\0\0\1" or head[3] < 0xB9:
            return False
        if head[3] == 0xB9:  # the end
            at += 4
        elif head[3] == 0xBA:
            at += 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
        else:
            at += 6 + int.from_bytes(head[4:6], "big")
    return at == size


@walk
def is_whole_transport_stream(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether each packet has its mark, and each stream's numbers are in a row.

    Source: ISO/IEC 13818-1, section 2.4.3.
    """
    head = file.read(3 * 208)
    length = next((n for n in (188, 192, 204) if head[4 if n == 192 else 0 :: n][:3] == b"GGG"), 188)
    begin = 4 if length == 192 else 0  # .m2ts has the time of arrival before each
    numbers: dict[int, int] = {}
    file.seek(0)
    while content := file.read(length * 4096):
        check()
        if len(content) % length:
            return False
        packets = np.frombuffer(content, np.uint8).reshape(-1, length)[:, begin : begin + 188].astype(int)
        if (packets[:, 0] != 0x47).any() or (packets[:, 1] & 0x80).any():
            return False
        pids = (packets[:, 1] & 0x1F) << 8 | packets[:, 2]
        has_payload = (packets[:, 3] & 0x10 > 0) & (pids != 0x1FFF)
        for pid in np.unique(pids[has_payload]).tolist():
            mine = packets[has_payload & (pids == pid)]
            counted = mine[:, 3] & 15
            steps = np.diff(counted, prepend=numbers.get(pid, counted[0])) % 16
            is_new = (mine[:, 3] & 0x20 > 0) & (mine[:, 4] > 0) & (mine[:, 5] & 0x80 > 0)
            if (steps[~is_new] > 1).any():
                return False
            numbers[pid] = int(counted[-1])
    return True


def largest_flac_frame(stream: Any) -> float:
    """Bytes of a FLAC file's largest frame, as its header says: a larger one has the bytes of a lost one before it.

    Source: RFC 9639, section 8.2.
    """
    header = stream.codec_context.extradata or b""
    return float(int.from_bytes(header[7:10], "big")) or inf if len(header) >= 10 else inf


WALKS: Final[dict[str, Callable[..., bool]]] = {
    "asf": is_whole_asf,
    "avi": is_whole_avi,
    "flv": is_whole_flash,
    "matroska,webm": is_whole_matroska,
    "mpeg": is_whole_program_stream,
    "mpegts": is_whole_transport_stream,
    "ogg": is_whole_ogg,
}
"""What looks at a file, by FFmpeg's name of its format."""
