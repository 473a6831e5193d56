"""Names of the sizes that models are built in."""

from __future__ import annotations

from typing import Literal

SizeName = Literal["nano", "tiny", "small", "base", "large"]
