"""``diffmavil synth``: make a data set of clips in which what is seen causes what is heard."""

from __future__ import annotations

from pathlib import Path

from diffmavil.checks import MAX_CLIPS, MAX_WORKERS, check_number, check_seed


def synth(
    *,
    out: Path,
    clips: int = 1000,
    seed: int = 0,
    clip_s: float = 3.0,
    size_px: int = 112,
    fps: int = 16,
    sample_rate_hz: int = 16000,
    workers: int | None = None,
) -> None:
    """Make .mp4 clips (H.264 and AAC) of ten kinds of event, and manifest.csv that lists them.

    The kinds take turns and every fourth clip of a kind is for testing, so kinds and splits are balanced when
    the number of clips is a multiple of 40. The same arguments give the same bytes, whatever the workers.

    Args:
        out: Folder to write into; made if missing. Clips go into its subfolder clips.
        clips: Number of clips, at least 1.
        seed: Seed of the data set, 0 or more. A clip depends on it and on its own number, not on other clips.
        clip_s: Length of each clip in seconds, 1 to 60.
        size_px: Width and height of the picture in pixels, an even number from 32 to 1024.
        fps: Frames a second, 4 to 60.
        sample_rate_hz: Samples of sound a second.
        workers: Processes to work in; every core of this process when not given.

    Raises:
        ValueError: If a number is outside its range, or if there is a manifest already.
    """
    check_number("clips", clips, at_least=1, limit=MAX_CLIPS)
    check_seed("seed", seed)
    check_number("workers", workers, at_least=1, limit=MAX_WORKERS, optional=True)
    if (out / "manifest.csv").exists():
        raise ValueError(f"out must be a folder without a manifest.csv, which would be written over, got {out}")
    from diffmavil.commands.synth_set import write_set  # with torch behind it, which --help need not wait for

    write_set(
        out,
        clips=clips,
        seed=seed,
        workers=workers,
        clip_s=clip_s,
        size_px=size_px,
        fps=fps,
        sample_rate_hz=sample_rate_hz,
    )
