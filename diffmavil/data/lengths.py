"""How long a file and its streams are: what it states, and what its packets say where that is a guess or ambiguous."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from diffmavil.data.media import MediaInfo, Span

Ends = dict[int, float]
"""Where the packets of each stream end, by its index, in seconds from the file's first instant."""

_LATE_S: Final = 0.25
"""Stated ends may be too late by this much: some count the delay of reordered frames."""

_PER_S: Final = 1_000_000
"""Unit of the container's times."""

_GUESSED: Final = frozenset("aac ac3 amr dts eac3 h264 hevc loas m4v mp3 mpegvideo wv oggflac flac".split())
"""Formats that state no duration, or one that cannot be relied on: all packets are read, if not in a row."""

_COUNTED: Final = frozenset("aac ac3 amr dts eac3 flac loas mp3 tta wv oggflac".split())
"""Formats of audio without pauses: a frame begins where the one before it ends, whatever its time stamp."""

_UNRELIABLE: Final = frozenset({"aac", "oggflac", "wv"})
"""Those of them whose time stamps go on from a number in the file, or at the rate of its first frame."""

_RENUMBERED: Final = frozenset({"oggflac", "wv"})
"""Those in which the first frame may have any number."""

_MEASURED: Final = frozenset({"asf", "mpeg", "mpegts"})
"""Formats whose duration FFmpeg only estimates, or that often state a wrong one: the last packets are read for it."""

_STREAMED: Final = frozenset({"flv"})
"""Formats that state one duration for all streams, any of which may end before."""

_INDEXED: Final = frozenset({"mov,mp4,m4a,3gp,3g2,mj2"})
"""Formats with an index, in which each track states its own length."""

_ADTS_RATES_HZ: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


def read_lengths(
    container: Any,
    name: str,
    streams: dict[str, Any],
    packet_ends: Callable[[float], Ends],
    is_whole: Callable[[], bool],
    is_in_row: bool,
) -> MediaInfo:
    """What a file says about itself.

    Formats without an index state one duration. It is the last time stamp in files of FFmpeg, and the time from the
    first to the last one in others: the last time stamp, if no packet goes on after it.

    Args:
        container: The open file.
        name: Its format.
        streams: Its streams by kind, ``audio`` and ``video``.
        packet_ends: Reads the packets from a time on.
        is_whole: Whether the file's structure shows that nothing of it is missing.
        is_in_row: Whether its frames have numbers that go on from 0 to the end that it states.
    """
    zero_s = (container.start_time or 0) / _PER_S
    tracks = {kind: _Track(stream, zero_s) for kind, stream in streams.items() if stream is not None}
    is_opus = name == "ogg" and [stream.codec_context.name for stream in streams.values() if stream] == ["opus"]
    is_guessed = container.duration is None or (name in _GUESSED and not is_in_row)
    stated_s = None if is_guessed else container.duration / _PER_S
    tracks_s = [track.stated_s for track in tracks.values() if track.stated_s < inf]
    differ = name == "avi" and max(tracks_s, default=0.0) > min(tracks_s, default=0.0) + _LATE_S
    ends_s: Ends = {}
    is_last_stamp = False
    if stated_s is None:
        ends_s = packet_ends(-inf)
        duration_s = max(ends_s.values(), default=0.0)
    elif is_opus and is_whole():  # its duration counts the pre-skip, which is not played
        ends_s = packet_ends(stated_s)
        duration_s = max(ends_s.values(), default=stated_s)
    elif name not in _INDEXED | {"ogg"} and (zero_s != 0.0 or name in _MEASURED | _STREAMED or differ):
        ends_s = packet_ends(-inf if name in _STREAMED | {"avi"} else stated_s - max(0.0, zero_s))
        last_s = max(ends_s.values(), default=0.0)
        is_last_stamp = last_s + zero_s <= stated_s + _LATE_S
        duration_s = max([stated_s - (zero_s if is_last_stamp else 0.0), *(tracks_s if differ else [])])
        if last_s >= duration_s - _LATE_S or is_whole():
            duration_s = last_s
        else:  # it is cut off, so how long each stream was is not known
            ends_s = {}
    else:
        duration_s = max([stated_s, *tracks_s])

    def span(track: _Track | None) -> Span | None:
        if track is None:
            return None
        tagged_s = track.tagged_s + (-zero_s if is_last_stamp else track.begin_s)
        stated_s = inf if track.index in ends_s else track.stated_s
        return track.begin_s, min(stated_s, tagged_s, ends_s.get(track.index, duration_s))

    return MediaInfo(duration_s, span(tracks.get("audio")), span(tracks.get("video")))


class _Track:
    """What is stated of a stream, which cannot be asked any more when the file has been opened anew."""

    def __init__(self, stream: Any, zero_s: float) -> None:
        self.index: int = stream.index
        self.begin_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - zero_s
        ticks = stream.duration or (stream.frames if stream.container.format.name == "avi" else 0)
        self.stated_s = self.begin_s + float(ticks * stream.time_base) if ticks else inf
        self.tagged_s = _tagged_s(stream)


def is_counted(name: str, goes_back: bool = True) -> bool:
    """Whether a frame begins where the one before it ends, whatever its time stamp.

    Args:
        name: The format.
        goes_back: Whether its time stamp is before that. Where it is later, a frame was lost, or could not be decoded;
            but for formats in which stamps are not to be relied on at all.
    """
    return name in _COUNTED and (goes_back or name in _UNRELIABLE)


def is_renumbered(name: str) -> bool:
    """Whether the first frame may have any number, so that the format can only be read from its start."""
    return name in _RENUMBERED


def packet_length_s(format_name: str, packet: Any) -> float:
    """How long a packet lasts. FFmpeg does not see that the sample rate of an .aac file changes.

    Source: ISO/IEC 13818-7, section 6.2.
    """
    if format_name == "aac" and packet.size >= 7:
        header = bytes(packet)[:7]
        rate = header[2] >> 2 & 15
        if header[0] == 0xFF and rate < len(_ADTS_RATES_HZ):
            return 1024 * ((header[6] & 3) + 1) / _ADTS_RATES_HZ[rate]
    return float((packet.duration or 0) * packet.time_base)


def states_tracks(name: str) -> bool:
    """Whether each track states its own length, which can be relied on."""
    return name in _INDEXED


def _tagged_s(stream: Any) -> float:
    """Duration that Matroska files keep in a tag, such as 00:00:09.960000000; infinite without one."""
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return inf
