import io

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.scene import images
from sightline.scene.errors import InputError
from sightline.scene.images import color, encode_png, read_image, read_rgba


def pattern(height=5, width=7, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def as_tensor(array):
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "ppm"])
def test_lossless_files_come_back(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pattern()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    rgba = read_rgba(path)
    assert rgba.dtype == torch.float32
    torch.testing.assert_close(rgba[:3], as_tensor(pattern()))
    assert (rgba[3] == 1).all()


def test_modes_become_rgba(tmp_path):
    rgb = Image.fromarray(pattern())
    for mode in ("L", "1", "P", "CMYK", "LA", "RGBA"):
        path = tmp_path / f"{mode}.tiff"
        (rgb.convert("L") if mode == "LA" else rgb).convert(mode).save(path)
        assert read_rgba(path).shape == (4, 5, 7), mode


def test_transparency_shows_the_background(tmp_path):
    array = pattern(channels=4)
    array[..., 3] = np.array([0, 255, 128, 255, 0, 64, 1])
    Image.fromarray(array).save(tmp_path / "a.png")
    alpha = array[..., 3:] / 255
    for background in ((1.0, 1.0, 1.0), (0.2, 0.4, 0.6)):
        expected = array[..., :3] / 255 * alpha + np.array(background) * (1 - alpha)
        found = read_image(tmp_path / "a.png", background).permute(1, 2, 0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_transparent_palette_color_is_transparent(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png")[:, 0].T.tolist() == [[1, 1, 1], [0, 1, 0]]


def test_photographs_are_turned_upright(tmp_path):
    picture = Image.fromarray(pattern(4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    picture.save(tmp_path / "a.png", exif=exif)
    torch.testing.assert_close(read_image(tmp_path / "a.png"), as_tensor(np.rot90(pattern(4, 8), -1).copy()))


def test_sixteen_bits_keep_their_depth(tmp_path):
    array = np.array([[0, 1, 40000, 65535]], np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_rgba(tmp_path / "a.png")[0], array / 65535, atol=1e-7)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "uint16"])
def test_arrays_are_pictures(tmp_path, shape, dtype):
    array = np.random.default_rng(0).random(shape)
    stored = (array * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("u") else array.astype(dtype)
    np.save(tmp_path / "a.npy", stored)
    found = read_rgba(tmp_path / "a.npy")
    assert found.shape == (4, 4, 6)
    np.testing.assert_allclose(found[0], array.reshape(4, 6, -1)[..., 0], atol=1 / 255)


def test_only_pictures_with_usable_pixels(tmp_path):
    def npy(array):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        return tmp_path / "a.npy"

    def file(data, name="a.png"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    def tiff(array):
        Image.fromarray(array).save(tmp_path / "f.tiff")
        return tmp_path / "f.tiff"

    holes = np.full((4, 4, 3), 0.5, np.float32)
    holes[1, 2, 0] = np.nan
    stream = io.BytesIO()
    Image.fromarray(pattern(64, 64)).save(stream, format="PNG")
    png = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(pattern(64, 64)).save(stream, format="JPEG")
    for make, says in (
        (lambda: file(b""), "is empty"),
        (lambda: file(b"hello, I am no picture"), "not a picture we can read"),
        (lambda: file(png[: len(png) // 2]), "damaged or cut short"),
        (lambda: file(png[:20]), "not a picture|damaged"),
        (lambda: file(stream.getvalue()[:400], "a.jpg"), "damaged or cut short"),
        (lambda: file(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.eps"), "not a picture we can read"),
        (lambda: npy(holes), "1 values that are not finite"),
        (lambda: tiff(np.full((4, 4), np.nan, np.float32)), "16 values that are not finite"),
        (lambda: npy(np.full((4, 4, 3), 200.0)), "values from 200 to 200"),
        (lambda: npy(np.zeros((4, 4, 5))), r"shape \[4, 4, 5\]"),
        (lambda: npy(np.zeros((0, 4, 3))), r"shape \[0, 4, 3\]"),
        (lambda: npy(np.zeros((4, 4, 3), complex)), "complex"),
        (lambda: npy(np.zeros((4, 4, 3), np.int32)), "signed"),
        (lambda: npy(np.array([[print, print]], dtype=object)), "unsafe"),
        (lambda: tmp_path, "is a folder"),
        (lambda: tmp_path / "none.png", "does not exist"),
    ):
        path = make()
        with pytest.raises(InputError, match=says) as error:
            read_rgba(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_pictures_with_too_many_pixels_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 30)
    Image.fromarray(pattern()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="7x5 pixels"):
        read_rgba(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 1_000_000
    with pytest.raises(InputError, match="pixels"):
        read_rgba(tmp_path / "bomb.png")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_round_trip(tmp_path, channels):
    picture = as_tensor(pattern(channels=channels))
    (tmp_path / "a.png").write_bytes(encode_png(picture))
    torch.testing.assert_close(
        read_rgba(tmp_path / "a.png")[: max(channels, 3)], picture.expand(max(channels, 3), -1, -1)
    )


def test_saving_clamps_and_refuses_nonsense():
    assert np.asarray(Image.open(io.BytesIO(encode_png(torch.tensor([[[-1.0, 2.0]]]))))).tolist() == [[0, 255]]
    for wrong in (torch.zeros(2, 4, 4), torch.zeros(4, 4), torch.full((3, 2, 2), float("nan"))):
        with pytest.raises(InputError):
            encode_png(wrong)


def test_colors_have_names():
    assert color("White") == (1, 1, 1)
    assert color("#ff0080") == pytest.approx((1, 0, 128 / 255))
    for wrong in ("", "rainbow", "#12345", "#gg0000"):
        with pytest.raises(InputError, match="unknown"):
            color(wrong)
