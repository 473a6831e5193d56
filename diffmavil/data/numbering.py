"""Whether audio that numbers its frames has them in a row from 0 on: then what its header states can be trusted.

Frames keep their numbers where a file is cut or joined without decoding. Only headers are looked at, not whole files.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from math import ceil, inf
from typing import Any, BinaryIO, Final

from diffmavil.data.wholeness import PAGE, Check, largest_flac_frame, walk

_BLOCK: Final = struct.Struct("<4sI2xBBIIII")
_INITIAL, _FINAL = 0x800, 0x1000
"""Flags of the first and the last one of the blocks that hold different channels of the same instants."""

_PLACES: Final = 16
"""Into how many parts a FLAC file is divided."""

_SHORT_S: Final = 60
"""All frames of shorter FLAC files are looked at, which is as quick."""


@walk
def is_in_row_wavpack(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether block follows block, from sample 0 to the last one that the first block states; tags may follow.

    Source: WavPack 4 and 5 Binary File / Block Format, section 2.
    """
    at = expected = 0
    wanted = None
    while at + _BLOCK.size <= size:
        check()
        file.seek(at)
        mark, length, high, high_total, total, number, samples, flags = _BLOCK.unpack(file.read(_BLOCK.size))
        if mark != b"wvpk":
            break
        if samples:
            wanted = total | high_total << 32 if wanted is None else wanted
            if flags & _INITIAL and number | high << 32 != expected:
                return False
            expected += samples if flags & _FINAL else 0
        at += 8 + length
    return at <= size and expected == wanted


@walk
def is_in_row_ogg_flac(file: BinaryIO, size: int, check: Check) -> bool:
    """Whether each page ends as many samples after the one before it as its frames have, and the first at 0.

    Source: RFC 3533, section 6; RFC 9639, sections 8.2 and 10.1.
    """
    at = ended = 0
    is_last, block, serial = False, 0, None
    while at < size:
        check()
        file.seek(at)
        mark, _, flags, granule, page_serial, _, _, segments = PAGE.unpack(file.read(PAGE.size))
        lacing = file.read(segments)
        if block == 0:
            head = file.read(21)
            block, serial = int.from_bytes(head[17:19], "big"), page_serial
            if head[1:5] != b"FLAC" or block == 0 or head[17:19] != head[19:21]:
                return False
        if mark != b"OggS" or page_serial != serial or (is_last and granule != ended):
            return False
        if granule not in (0, (1 << 64) - 1):
            before = bytes([255 * (flags & 1)]) + lacing  # a packet may go on from the last page; an empty one is none
            samples = block * sum(b < 255 and (b > 0 or a == 255) for a, b in pairwise(before))
            is_last = granule < ended + samples
            if not ended + samples - block < granule <= ended + samples:
                return False
            ended = granule
        at += PAGE.size + segments + sum(lacing)
    return at == size and ended > 0


def is_in_row_flac(container: Any, stream: Any, size: int, check: Check) -> bool:
    """Whether a long FLAC file begins with sample 0, ends with the last that its header states, and is no longer.

    A joined file has more bytes somewhere than as many frames can have. The file is left at its end.

    Source: RFC 9639, section 8.2.
    """
    header, largest = stream.codec_context.extradata or b"", largest_flac_frame(stream)
    block, total = int.from_bytes(header[:2], "big"), int.from_bytes(header[10:18], "big") & (1 << 36) - 1
    if total < _SHORT_S * stream.rate or largest == inf or block == 0 or header[:2] != header[2:4]:
        return False
    per_tick = float(stream.rate * stream.time_base)
    places, ended = [], 0.0
    for sample in (*(total * k // _PLACES for k in range(_PLACES)), total - stream.rate):
        check()
        if sample:
            container.seek(round(sample / per_tick), stream=stream)
        for packet in container.demux(stream):
            check()
            if packet.size == 0 or packet.pts is None:
                return False
            places.append((packet.pts * per_tick, packet.pos))
            break
    for packet in container.demux(stream):
        check()
        if packet.size:
            if packet.pts is None or packet.pts * per_tick < ended:
                return False
            ended = (packet.pts + packet.duration) * per_tick
    places.append((total, size))
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)]
    are_right = all(0 <= length <= ceil(samples / block) * largest for samples, length in steps)
    return places[0][0] == 0 and round(ended) == total and are_right
