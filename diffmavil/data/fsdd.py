"""The Free Spoken Digit Dataset: a small stand-in for Speech Commands.

Source: Jackson et al., "Jakobovski/free-spoken-digit-dataset: v1.0.8", Zenodo 2018.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.hidden import LeftHidden, is_hidden

_NAME: Final = re.compile(r"(?P<digit>[0-9])_(?P<speaker>\w+)_(?P<index>[0-9]+)\.wav")
_TEST_INDICES: Final = range(5)


class FsddSource(ClipSource):
    """The Free Spoken Digit Dataset: ``recordings/{digit}_{speaker}_{index}.wav``.

    Index 0 to 4 of each digit and speaker are for testing, as its authors say, and the others for training. The label
    is the digit. Hidden files are left out and counted in a line.

    Args:
        root: The folder that holds ``recordings``.
    """

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def clips(self) -> list[Clip]:
        """List the recordings in sorted order.

        Raises:
            ValueError: If there are none, or if one is named otherwise.
        """
        folder = self.root / "recordings"
        hidden, clips = LeftHidden(folder), []
        for path in sorted(folder.glob("*.wav")):
            if is_hidden(path.name):
                hidden.note(str(path), is_folder=False)
                continue
            parts = _NAME.fullmatch(path.name)
            if parts is None:
                raise ValueError(f"a recording must be named digit_speaker_index.wav, got {path}")
            split = "test" if int(parts["index"]) in _TEST_INDICES else "train"
            clips.append(Clip(str(path), split=split, labels=(parts["digit"],)))
        if not clips:
            raise ValueError(f"root must hold recordings/digit_speaker_index.wav, got none in {folder}")
        hidden.say()
        return clips
