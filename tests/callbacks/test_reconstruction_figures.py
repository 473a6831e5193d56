"""What the figures of a reconstruction show: captions, hidden patches in grey, and nothing where there is padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from small import AUDIO_SIZE, VIDEO_SIZE

from diffmavil.callbacks.reconstruction_figures import (
    BLANK,
    frame_rows,
    frames_figure,
    pixels,
    spectrogram_figure,
    spectrogram_rows,
)
from diffmavil.models.reconstruct import Views

CAPTIONS = ["original", "visible", "noised", "predicted"]
MEAN, STD = -4.0, 4.5


def views(shape: tuple[int, ...], *, noised: bool = True) -> Views:
    """A clip of which the first half of the last axis is visible."""
    torch.manual_seed(0)
    original = 1.0 + torch.rand(2, *shape)
    visible, other = original.clone(), 1.0 + torch.rand(2, *shape)
    visible[..., shape[-1] // 2 :] = 0.0
    decoded = torch.where(visible == 0, other, visible)
    return Views(original, visible, decoded if noised else visible, decoded)


AUDIO, VIDEO = views((1, *AUDIO_SIZE)), views((3, *VIDEO_SIZE))


def captions(figure: Figure) -> list[str]:
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    return [title for title in titles if title] or [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_rows_have_captions_and_noise_only_where_there_was_any() -> None:
    for noised, names in ((True, CAPTIONS), (False, ["original", "visible", "predicted"])):
        sound = spectrogram_rows(views((1, *AUDIO_SIZE), noised=noised), 1, None, mean=MEAN, std=STD)
        pictures = frame_rows(views((3, *VIDEO_SIZE), noised=noised), 1, None)
        assert captions(spectrogram_figure(sound, 0.01)) == names
        assert captions(frames_figure(pictures, 0.0, 10.0)) == names


def test_values_are_log_mel_energies_and_colours_and_what_is_hidden_is_marked() -> None:
    sound = spectrogram_rows(AUDIO, 1, 20, mean=MEAN, std=STD)
    expected = AUDIO.original[1, 0, :20].T.numpy() * STD + MEAN
    np.testing.assert_allclose(sound.values["original"], expected, rtol=1e-5)
    bins = AUDIO_SIZE[1]
    assert not sound.hidden["original"].any() and not sound.hidden["predicted"].any()
    assert sound.hidden["visible"][bins // 2 :].all() and not sound.hidden["visible"][: bins // 2].any()
    pictures = frame_rows(VIDEO, 1, 3)
    assert pictures.values["visible"].shape == (3, *VIDEO_SIZE[1:], 3)
    np.testing.assert_allclose(pictures.values["visible"][:, :, VIDEO_SIZE[2] // 2 :], BLANK)


@pytest.mark.parametrize("frames", [6, 24, 47])
def test_padding_of_a_spectrogram_is_blank(frames: int) -> None:
    rows = spectrogram_rows(AUDIO, 0, frames, mean=MEAN, std=STD)
    figure = spectrogram_figure(rows, 0.01, AUDIO_SIZE[0])
    drawn = pixels(figure)
    for axes in figure.axes[: len(CAPTIONS)]:
        box = axes.get_window_extent()
        left, right = round(box.x0) + 2, round(box.x1)
        middle = drawn[drawn.shape[0] - round((box.y0 + box.y1) / 2), left:right]
        is_blank = (middle == 255).all(axis=-1)
        end = round(frames / AUDIO_SIZE[0] * (right - left))
        assert is_blank[end + 3 :].all() and not is_blank[: end - 3].any()


@pytest.mark.parametrize("frames", [1, 3])
def test_padding_of_a_film_is_blank(frames: int) -> None:
    figure = frames_figure(frame_rows(VIDEO, 0, frames), 0.25, 10.0, VIDEO_SIZE[0])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == [f"{0.25 + k / 10:.2f} s" if k < frames else "" for k in range(VIDEO_SIZE[0])]
    drawn, box = pixels(figure), figure.axes[0].get_window_extent()
    cells = np.array_split(np.arange(round(box.x0), round(box.x1)), VIDEO_SIZE[0])
    rows = slice(drawn.shape[0] - round(box.y1), drawn.shape[0] - round(box.y0))
    for number, columns in enumerate(cells):
        cell = drawn[rows, columns[6:-6]]
        assert (cell == 255).all() == (number >= frames)


def test_without_padding_nothing_is_blank() -> None:
    whole = frames_figure(frame_rows(VIDEO, 0, None), 0.0, 10.0, VIDEO_SIZE[0])
    same = frames_figure(frame_rows(VIDEO, 0, VIDEO_SIZE[0]), 0.0, 10.0)
    np.testing.assert_array_equal(pixels(whole), pixels(same))
