"""A line that says so where clips are read in another window than that of the weights."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_info

from diffmavil.data import ClipDataModule
from diffmavil.models.origin import Origin


def note_other_window(data: ClipDataModule | None, origin: Origin, name: str) -> None:
    """Say what differs between the window of the data and the one that weights were trained on.

    Args:
        data: The data; ``None`` where it is none of ours.
        origin: What the checkpoint of the weights says; one of an earlier version says nothing of its window.
        name: How to call that checkpoint.
    """
    if data is not None and origin.window is None:
        rank_zero_info(f"{name} does not say what it reads of a clip: the window is that of the config")
    elif data is not None and origin.window is not None:
        differences = data.window.differences(origin.window, data.modalities)
        if differences:
            rank_zero_info(f"another window than that of {name}: " + "; ".join(f"data.{text}" for text in differences))
