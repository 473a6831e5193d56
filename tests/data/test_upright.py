"""Frames as a player shows them: all ways to lay a rectangle, and pixels that are not square."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from media import SHARED, decode_frames, frames_of, write_media

from diffmavil.data import Clip
from diffmavil.data.audit import Audit
from diffmavil.data.decode import MediaFile
from diffmavil.data.shards import Stored, encode
from diffmavil.data.upright import display_matrix, pixel_aspect, rotation_matrix, shown_size, upright

Picture = npt.NDArray[np.uint8]

LAYOUTS = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # clockwise
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


def quarters() -> Picture:
    """Four corners of different colours."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:] = (220, 40, 40), (40, 220, 40)
    picture[24:, :32], picture[24:, 32:] = (40, 40, 220), (220, 220, 220)
    return picture


def lay(path: Path, matrix: tuple[float, ...]) -> Path:
    """Write a matrix into a file's first track that is not one already."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags to alternate group and volume: 40 bytes
    a, b, c, d = (round(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    laid = path.with_stem("laid_" + "_".join(f"{value:g}" for value in matrix))
    laid.write_bytes(data)
    return laid


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("upright") / "plain.mp4", frames=[quarters()] * 3)


@pytest.mark.parametrize("matrix", LAYOUTS, ids=str)
def test_every_matrix_lays_the_frame_as_it_says(plain: Path, matrix: tuple[int, ...]) -> None:
    stored = decode_frames(plain, [0.0])[0]
    np.testing.assert_array_equal(decode_frames(lay(plain, matrix), [0.0])[0], LAYOUTS[matrix](stored))


@pytest.mark.parametrize(
    ("matrix", "nearest"),
    [((0.98, 0.17, -0.17, 0.98), (1, 0, 0, 1)), ((0.1, 0.99, -0.99, 0.1), (0, 1, -1, 0)),
     ((-2, 0, 0, 2), (-1, 0, 0, 1)), ((0, 0, 0, 0), (1, 0, 0, 1)), ((1, 0, 0, 0), (1, 0, 0, 1))],
)  # fmt: skip
def test_a_matrix_between_them_or_a_broken_one_is_brought_to_the_nearest(
    plain: Path, matrix: tuple[float, ...], nearest: tuple[int, ...]
) -> None:
    stored = decode_frames(plain, [0.0])[0]
    np.testing.assert_array_equal(decode_frames(lay(plain, matrix), [0.0])[0], LAYOUTS[nearest](stored))


def test_an_angle_turns_counterclockwise() -> None:
    for quarter in range(-4, 5):
        turned = upright(quarters(), rotation_matrix(90.0 * quarter))
        np.testing.assert_array_equal(turned, np.rot90(quarters(), quarter))


def test_a_frame_whose_side_data_has_no_name_is_turned_all_the_same(plain: Path) -> None:
    class Nameless:
        """A decoded frame as PyAV 18 gives those that hold EXIF data."""

        rotation = 90

        @property
        def side_data(self) -> None:
            raise ValueError("28 is not a valid Type")

    np.testing.assert_array_equal(upright(quarters(), display_matrix(Nameless())), np.rot90(quarters()))


def test_a_mirrored_file_is_the_plain_one_mirrored() -> None:
    cases = SHARED.parent / "cases"
    if not cases.is_dir():
        pytest.skip("the folder shared/cases is not beside the project")
    times_s = [0.0, 0.5, 1.9]
    plain, mirrored = (decode_frames(cases / f"6_{name}.mp4", times_s) for name in ("plain", "mirrored"))
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    assert not np.array_equal(plain, mirrored)


def round_on(aspect: Fraction, path: Path, codec: str) -> Path:
    """A film of a disc that is round where pixels have a width of ``aspect`` times their height."""
    y, x = np.mgrid[:144, :180]
    disc = ((x - 90) * float(aspect)) ** 2 + (y - 72) ** 2 < 40**2
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 180, 144, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for k in range(4):
            picture = np.repeat((disc * (200 + 10 * k))[..., None], 3, axis=2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("aspect", [Fraction(64, 45), Fraction(8, 9), Fraction(1)], ids=str)
def test_what_is_round_on_a_screen_is_round_in_the_frame(
    tmp_path: Path, name: str, codec: str, aspect: Fraction
) -> None:
    path = round_on(aspect, tmp_path / name, codec)
    with MediaFile(path) as media:
        whole, small = frames_of(media, [0.1])[0], frames_of(media, [0.1], 72)[0]
    for frame, high in ((whole, max(144, 144 / aspect)), (small, 72)):
        assert frame.shape[1] / frame.shape[0] == pytest.approx(180 / 144 * float(aspect), abs=0.01)
        assert min(frame.shape[:2]) == pytest.approx(min(high, 180), abs=1)
        disc = frame[..., 0] > 100
        assert disc.any(0).sum() == pytest.approx(disc.any(1).sum(), abs=2)


def test_prepared_frames_have_square_pixels_too(tmp_path: Path) -> None:
    path = round_on(Fraction(64, 45), tmp_path / "a.mp4", "libx264")
    with MediaFile(path) as media:
        stored = encode.encode_clip(Clip(str(path)), media, "video", Stored(short_side=72), Audit(min_clip_s=0.0))
    header = stored.jpegs[0].index(b"\xff\xc0")
    assert struct.unpack(">HH", stored.jpegs[0][header + 5 : header + 9]) == (72, 128)


@pytest.mark.parametrize("aspect", [Fraction(1000), Fraction(1, 1000), Fraction(65535, 1), Fraction(0)], ids=str)
def test_an_aspect_that_cannot_be_is_square(tmp_path: Path, aspect: Fraction) -> None:
    path = round_on(aspect, tmp_path / "a.mp4", "libx264")
    assert decode_frames(path, [0.1]).shape == (1, 144, 180, 3)


def test_an_aspect_that_would_make_a_frame_longer_than_any_is_square() -> None:
    """Such as the one that a broken size in the header of an mp4 amounts to."""
    assert pixel_aspect(16 / 9, 256, 144) == 1.0 and pixel_aspect(9 / 16, 144, 256) == 1.0
    assert pixel_aspect(2.0, 1024, 858) == 2.0 and pixel_aspect(32 / 11, 352, 576) == 32 / 11
    assert pixel_aspect(4.1, 100, 200) == pixel_aspect(0.0, 100, 100) == pixel_aspect(1.0, 900, 100) == 1.0


def test_no_aspect_makes_a_frame_larger_than_any_may_be() -> None:
    assert shown_size(8000, 8000, 4.0, None, 8192) == (8192, 2048)
    assert shown_size(8000, 2, 0.25, 1, 8192) == (1000, 1)
    assert shown_size(8000, 1, 4.0, None, 8192) == (8192, 1)
