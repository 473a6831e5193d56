"""Paths in a checkpoint: none is followed that leads out of the folders in which the run keeps its checkpoints.

Lightning's ModelCheckpoint takes the paths of earlier checkpoints from the state in a checkpoint, and removes what is
there, folders with all that is in them, when it writes a better one. No other callback of Lightning follows a path from
its state.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint

PATHS: Final = ("best_model_path", "last_model_path", "kth_best_model_path")
KEYS: Final = {*PATHS, "dirpath", "best_k_models"}


def keep_own_paths(states: dict[str, dict[str, Any]], callbacks: Sequence[Callback], checkpoint: str) -> list[str]:
    """Make all paths in callback states, in place, those of checkpoints that this run may remove.

    These lie directly in the folder of the checkpoint that is loaded, or in the one that the config gives to the
    callback. A path to elsewhere becomes that of the checkpoint of this name in the folder of the loaded one (the run
    was moved, or was begun from another working folder), or empty. States of callbacks that write no checkpoints are
    left alone.

    Args:
        states: States of callbacks, by their keys.
        callbacks: The callbacks of this run.
        checkpoint: Path of the checkpoint that is loaded.

    Returns:
        The paths to elsewhere that were dropped.
    """
    # one that writes checkpoints before any other that reads the same state
    by_key = {callback.state_key: callback for callback in sorted(callbacks, key=lambda x: isinstance(x, Checkpoint))}
    loaded_from = os.path.dirname(checkpoint)
    dropped: list[str] = []
    for key, state in states.items():
        callback = by_key.get(key)
        if isinstance(callback, Checkpoint) or (callback is None and "ModelCheckpoint" in key):
            dropped += _keep_own_paths(state, callback, loaded_from)
    return list(dict.fromkeys(dropped))


def _keep_own_paths(state: dict[str, Any], callback: Callback | None, loaded_from: str) -> list[str]:
    own = getattr(callback, "dirpath", None)
    own = None if own is None else str(own)
    here = loaded_from if "://" in loaded_from else os.path.abspath(loaded_from)
    here = own if own is not None and _same(own, here) else here  # spelled as Lightning spells it
    dropped: list[str] = []

    def kept(path: Any) -> str:
        if not isinstance(path, str) or not path:
            return ""
        folder, _, name = path.replace(os.sep, "/").rpartition("/")
        places = [own, here] if own is not None and _same(own, folder) else [here]
        for place in places:
            if place is not None and _is_checkpoint(place, name):
                return f"{place.rstrip('/')}/{name}"
        if not _is_name(name) or not any(_same(place, folder) for place in (own, here) if place is not None):
            dropped.append(path)
        return ""  # one of ours that is gone: it was removed after the checkpoint was written, which is how it goes

    at_home = own is not None and (here == own or _same(own, str(state.get("dirpath", ""))))
    for key, value in state.items():
        looks_so = isinstance(value, str) and key not in KEYS and key != "monitor" and ("/" in value or os.sep in value)
        if key in PATHS or looks_so:
            state[key] = kept(value)
    scores = state.get("best_k_models")
    best = {kept(path): score for path, score in scores.items()} if isinstance(scores, dict) else {}
    best.pop("", None)
    is_lightnings = callback is None or isinstance(callback, ModelCheckpoint)
    if is_lightnings or "best_k_models" in state:
        state["best_k_models"] = best
    if isinstance(callback, ModelCheckpoint) and best and state.get("kth_best_model_path") not in best:
        worst = (max if callback.mode == "min" else min)(best, key=lambda path: float(best[path]))
        state |= {"kth_best_model_path": worst, "kth_value": torch.as_tensor(best[worst])}
    if is_lightnings or "dirpath" in state:
        state["dirpath"] = own if at_home else here
    return dropped


def _same(one: str, other: str) -> bool:
    """Whether two folders are the same."""
    if "://" in one + other:
        return one.rstrip("/") == other.rstrip("/")
    return os.path.realpath(one or ".") == os.path.realpath(other or ".")


def _is_checkpoint(folder: str, name: str) -> bool:
    """Whether a folder has a checkpoint of this name directly in it, and not a link that leads elsewhere."""
    if not _is_name(name):
        return False
    if "://" in folder:
        return True  # what was loaded from there may say what else is there
    place = os.path.join(folder, name)
    return os.path.exists(place) and _same(os.path.dirname(os.path.realpath(place)), folder)


def _is_name(name: str) -> bool:
    """Whether this can be a checkpoint's name, and nothing that a file system takes for more than a name."""
    return name.endswith(ModelCheckpoint.FILE_EXTENSION) and not any(
        sign in name for sign in ("::", "*", "?", "[", "\0")
    )
