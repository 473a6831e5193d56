"""Speech Commands: one-second recordings of single words.

Source: Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv:1804.03209.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.hidden import LeftHidden, is_hidden

_LOG: Final = logging.getLogger(__name__)


class SpeechCommandsSource(ClipSource):
    """Speech Commands, version 1 (30 words) or 2 (35): a folder of .wav files for each word.

    ``validation_list.txt`` and ``testing_list.txt`` say which files are for validation and test; the others are for
    training. Folders whose names begin with ``_`` (``_background_noise_``) hold no words and are left out. So are
    hidden files and folders, which are counted in a line.

    Args:
        root: The folder.

    Attributes:
        missing: How many files of a list are not there, by split, after ``clips`` has come to its end.
    """

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)
        self.missing: Counter[str] = Counter()

    def num_missing(self) -> Counter[tuple[str, str]]:
        """How many files of the lists are not there, by split."""
        return Counter({(split, ""): count for split, count in self.missing.items()})

    def clips(self) -> Iterator[Clip]:
        """List the words' files in sorted order, and say how many of the lists' are missing.

        Raises:
            ValueError: If a list cannot be read, or if the folder holds no word.
        """
        listed = {name: "val" for name in self._list("validation_list.txt")}
        for name in self._list("testing_list.txt"):
            if listed.setdefault(name, "test") != "test":
                raise ValueError(f"{self.root}: a file must be for validation or test, got {name} in both lists")
        hidden, words, num_clips = LeftHidden(self.root), [], 0
        for path in sorted(path for path in self.root.iterdir() if path.is_dir()):
            if is_hidden(path.name):
                hidden.note(str(path), is_folder=True)
            elif not path.name.startswith("_"):
                words.append(path.name)
        for word in words:
            for path in sorted((self.root / word).glob("*.wav")):
                if is_hidden(path.name):
                    hidden.note(str(path), is_folder=False)
                    continue
                split = listed.pop(f"{word}/{path.name}", "train")
                num_clips += 1
                yield Clip(str(path), split=split, labels=(word,))
        if not num_clips:
            raise ValueError(f"root must hold a folder of .wav files for each word, got none in {self.root}")
        hidden.say()
        self.missing = Counter(listed.values())
        if self.missing:
            counts = " and ".join(f"{count} {split}" for split, count in self.missing.items())
            _LOG.warning(f"{self.root} lacks {counts} files of its lists; they are left out")

    def _list(self, name: str) -> list[str]:
        path = self.root / name
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ValueError(f"{path}: the list cannot be read ({reason})") from error
        for line, name in enumerate(names, 1):
            if name.strip() and re.fullmatch(r"\w+/[\w.-]+", name) is None:
                raise ValueError(f"{path}, line {line}: a file must be given as word/name.wav, got {name!r}")
        return [name for name in names if name.strip()]
