"""The window of a clip that a model reads, and the statistics that its spectrograms are normalised by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from diffmavil.checks import check_number
from diffmavil.types import Modalities

_TOLERANCE = 1e-6
"""Relative difference up to which two numbers of a window are alike."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """What of a clip a model reads. The names are those of :class:`diffmavil.data.ClipDataModule`.

    Args:
        clip_s: Seconds of audio.
        sample_rate_hz: Sample rate of the waveform.
        num_mel_bins: Mel bins of the spectrogram.
        frame_shift_ms: Time from one spectrogram frame to the next.
        audio_mean: Mean of the log-mel values.
        audio_std: Their standard deviation.
        num_frames: Frames of the video.
        fps: Frames a second.
        image_size: Side of the frames in pixels.
        short_side: Pixels to which the shorter side of larger frames is brought before they are cropped.
    """

    clip_s: float
    sample_rate_hz: int
    num_mel_bins: int
    frame_shift_ms: float
    audio_mean: float
    audio_std: float
    num_frames: int
    fps: float
    image_size: int
    short_side: int

    @classmethod
    def from_dict(cls, values: object, name: str) -> Window:
        """A window as a checkpoint holds it, of which nothing is trusted.

        Args:
            values: Numbers by their names.
            name: How to call them in a message.

        Raises:
            ValueError: If one is missing, no number or out of its range.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or sorted(map(str, values)) != sorted(names):
            raise ValueError(f"{name} must be numbers for {', '.join(names)}")
        for key, value in values.items():
            whole = cls.__annotations__[key] == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise ValueError(f"{key} of {name} must be {'a whole number' if whole else 'a number'}, got {value!r}")
            if key == "audio_mean":
                check_number(f"{key} of {name}", value)
            else:
                check_number(f"{key} of {name}", value, above=0)
        return cls(**values)

    def as_dict(self) -> dict[str, int | float]:
        """Numbers by their names."""
        return asdict(self)

    def of(self, modalities: Modalities) -> dict[str, int | float]:
        """The numbers on which what is read of some streams depends."""
        video = ("num_frames", "fps", "image_size", "short_side")
        names = {"audio": set(self.as_dict()) - set(video), "video": set(video), "audio_video": set(self.as_dict())}
        return {key: value for key, value in self.as_dict().items() if key in names[modalities]}

    def differences(self, other: Window, modalities: Modalities) -> list[str]:
        """What differs from another window, such as ``clip_s is 10.24, not 2.56``.

        Args:
            other: The other one.
            modalities: Streams that are read of both.
        """
        theirs: Mapping[str, Any] = other.of(modalities)
        return [
            f"{key} is {value:g}, not {theirs[key]:g}"
            for key, value in self.of(modalities).items()
            if abs(value - theirs[key]) > _TOLERANCE * max(abs(value), abs(theirs[key]))
        ]
