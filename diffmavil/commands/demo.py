"""``diffmavil demo``: the whole of it on made clips, from nothing to a page of results."""

from __future__ import annotations

from pathlib import Path

from diffmavil.checks import MAX_CLIPS, MAX_EPOCHS, check_number, check_seed


def demo(*, out: Path = Path("runs/demo"), clips: int = 4000, epochs: int = 7, seed: int = 0) -> None:
    """See the whole of it work: make clips, pretrain, probe, fine-tune with few labels, and write report.html.

    Ten minutes or less on two cores. Each step is a command, printed before it runs; use them on your own clips.

    Args:
        out: Folder to write into.
        clips: Number of made clips, a multiple of 40.
        epochs: Epochs of pretraining, at least 1.
        seed: Seed of all but the clips: weights, order, windows, masks and the choice of few labels.

    Raises:
        ValueError: If ``clips`` is no positive multiple of 40, or ``epochs`` below 1.
    """
    check_number("clips", clips, at_least=40, limit=MAX_CLIPS)
    if clips % 40:
        raise ValueError(f"clips must be a positive multiple of 40, got {clips}")
    check_number("epochs", epochs, at_least=1, limit=MAX_EPOCHS)
    check_seed("seed", seed)
    from diffmavil.commands.demo_steps import run_demo  # all of torch, which --help need not wait for

    run_demo(out, clips=clips, epochs=epochs, seed=seed)
