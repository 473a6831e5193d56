"""Reconstructions of held-out clips, as pictures and as films."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torchaudio.functional
from jaxtyping import Int16, UInt8
from matplotlib.figure import Figure

from diffmavil.callbacks.reconstruction_figures import (
    BLANK,
    Rows,
    frame_rows,
    frames_figure,
    spectrogram_figure,
    spectrogram_rows,
)
from diffmavil.callbacks.reconstruction_images import reconstruct
from diffmavil.commands.report_page import Markup, data_uri, figure, join, percent, tag
from diffmavil.data import Clip, ClipDataModule
from diffmavil.data.synthetic import write_mp4
from diffmavil.modules import PretrainModule
from diffmavil.types import RawBatch

LARGEST_BYTES: Final = 2 * 2**20
"""Clips above this size are not put into the page."""

_PLAYABLE: Final = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm"}
_HELD_OUT: Final = ("test", "val", "train")
_FILM_FPS: Final = 24
_FILM_RATE_HZ: Final = 48000
"""AAC knows few rates; every browser plays this one."""


def about_clips(module: PretrainModule, data: ClipDataModule, count: int) -> Markup:
    """Mask and reconstruct clips at the module's ratios, always with the same masks and noise.

    They are of the first of test, val and train split that has clips, of different classes where there are labels.

    Args:
        module: The pretrained module.
        data: The data, set up.
        count: Number of clips; there may be fewer.
    """
    split = next(split for split in _HELD_OUT if len(data.split_indices[split]))
    articles: list[Markup] = []
    cuda = [module.device] if module.device.type == "cuda" else []
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda):
            torch.manual_seed(0)
            for raw in _read(data, _varied(data, split), count):
                articles += _articles(module, data, raw)
    finally:
        module.train(training)
    if not articles:
        return Markup()
    explained = (
        f"Clips of the {split} split, with {percent(module.audio_mask_ratio)} of the sound's patches hidden and "
        f"{percent(module.video_mask_ratio)} of the pictures'. Visible: what the encoder saw; the rest is grey. "
        "Noised: what the decoder was shown instead of the rest. Predicted: what it made of that. The network predicts "
        "patches with their mean and scale taken out; those of the true patch are put back here, so a prediction shows "
        "what structure was found, not that brightness or loudness was."
    )
    return join([tag("p", explained, class_="note"), *articles])


def _varied(data: ClipDataModule, split: str) -> list[int]:
    """Clips of a split, the first of each class before the others."""
    seen: set[tuple[str, ...]] = set()
    first: list[int] = []
    rest: list[int] = []
    for index in data.split_indices[split].tolist():
        labels = data.clips[index].labels
        (rest if labels in seen else first).append(index)
        seen.add(labels)
    return first + rest


def _read(data: ClipDataModule, indices: Sequence[int], count: int) -> Iterator[RawBatch]:
    """Read until ``count`` clips are there, others for those that cannot be read."""
    while indices and count > 0:
        chunk, indices = indices[:count], indices[count:]
        for raw in data.eval_dataloader(chunk):
            if len(raw.index):
                count -= len(raw.index)
                yield raw
            else:
                data.prepare(raw, "cpu")  # notes what was skipped


def _articles(module: PretrainModule, data: ClipDataModule, raw: RawBatch) -> list[Markup]:
    batch = data.prepare(raw, module.device)
    audio, video = reconstruct(module, batch)
    assert raw.waveform is not None and raw.num_samples is not None and raw.num_frames is not None
    shift_s = data.audio_transform.frame_shift_ms / 1000
    articles = []
    for clip, index in enumerate(raw.index.tolist()):
        frames = None if batch.audio_frames is None else int(batch.audio_frames[clip])
        mean, std = data.audio_transform.mean, data.audio_transform.std
        sound = spectrogram_rows(audio, clip, frames, mean=mean, std=std)
        pictures = frame_rows(video, clip, int(raw.num_frames[clip]))
        # the window of pictures lies in the middle of the sound's
        rate_hz = data.audio_transform.sample_rate_hz
        sound_s = min(int(raw.num_samples[clip]) / rate_hz, data.audio_transform.clip_s)
        start_s = max(0.0, sound_s - data.num_frames / data.fps) / 2
        samples = raw.waveform[clip, round(start_s * rate_hz) :].numpy()
        film = _film(pictures, data.fps, samples, rate_hz)
        media = [_original(data.clips[index]), _player("the window: original, visible, predicted", film)]
        rows = ", ".join(pictures.values)
        images = [
            figure("Spectrogram", _png(spectrogram_figure(sound, shift_s)), alt=f"Spectrogram in rows: {rows}"),
            figure("Pictures", _png(frames_figure(pictures, start_s, data.fps)), alt=f"Pictures in rows: {rows}"),
        ]
        articles.append(
            tag(
                "article",
                tag("h3", _title(data.clips[index])),
                tag("div", *media, class_="media"),
                tag("div", *images, class_="pair"),
            )
        )
    return articles


def _title(clip: Clip) -> str:
    labels = f" ({', '.join(clip.labels)})" if clip.labels else ""
    span = ""
    if clip.start_s is not None or clip.end_s is not None:
        end = "the end" if clip.end_s is None else f"{clip.end_s:g} s"
        span = f", {clip.start_s or 0:g} s to {end}"
    return f"{Path(clip.path).name}{labels}{span}"


def _original(clip: Clip) -> Markup:
    """The clip as it lies on disk, or why it is not here."""
    path = Path(clip.path)
    media_type = _PLAYABLE.get(path.suffix.lower())
    size = path.stat().st_size
    if media_type is None:
        return tag("p", f"The file is left out: browsers do not play {path.suffix or 'it'}.", class_="note")
    if size > LARGEST_BYTES:
        return tag("p", f"The file is left out: it has {size / 2**20:.1f} MiB.", class_="note")
    return _player("the whole file", data_uri(media_type, path.read_bytes()))


def _player(caption: str, film: str) -> Markup:
    player = tag("video", controls="", preload="metadata", playsinline="", src=film)
    return tag("figure", tag("figcaption", caption), player)


def _png(canvas: Figure) -> str:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=150, transparent=True, metadata={"Software": None})
    return data_uri("image/png", buffer.getvalue())


def _film(rows: Rows, fps: float, samples: Int16[np.ndarray, " S"], rate_hz: int) -> str:
    """A film of three pictures side by side, in twice their size, with the window's sound."""
    sides = [_pixels(rows.values[name]) for name in ("original", "visible", "predicted")]
    gap = np.full((*sides[0].shape[:2], 4, 3), round(BLANK * 255), np.uint8)
    pictures = np.concatenate([sides[0], gap, sides[1], gap, sides[2]], axis=2).repeat(2, axis=1).repeat(2, axis=2)
    length_s = len(pictures) / fps
    shown = (np.arange(max(1, round(length_s * _FILM_FPS))) * fps / _FILM_FPS).astype(int).clip(max=len(pictures) - 1)
    sound = torchaudio.functional.resample(
        torch.from_numpy(samples[: round(length_s * rate_hz)]).float(), rate_hz, _FILM_RATE_HZ
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_mp4(
            path,
            frames=pictures[shown],
            fps=_FILM_FPS,
            waveform=sound.round().clamp(-32768, 32767).short().numpy(),
            sample_rate_hz=_FILM_RATE_HZ,
        )
        return data_uri("video/mp4", path.read_bytes())


def _pixels(values: npt.NDArray[np.float32]) -> UInt8[np.ndarray, "L H W C"]:
    return (values * 255).round().astype(np.uint8)
