import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.scene import animations
from sightline.scene.animations import animation_output, encode_gif, encode_mp4, encode_webp, write_animation
from sightline.scene.errors import InputError, MissingDependency
from sightline.scene.files import Outputs


def frames(count=6, size=32, channels=3):
    """A colored square that moves over white."""
    pictures = torch.ones(count, channels, size, size)
    for i in range(count):
        pictures[i, 0, 8:20, 2 * i : 2 * i + 10] = 0.2
        pictures[i, 1, 8:20, 2 * i : 2 * i + 10] = torch.linspace(0, 1, 10)
    return pictures


def opened(data):
    picture = Image.open(io.BytesIO(data))
    pages = []
    for i in range(picture.n_frames):
        picture.seek(i)
        pages.append(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255)
    return picture, torch.stack(pages)


def test_gif_loops_keeps_white_white_and_is_close():
    picture, pages = opened(encode_gif(frames(), 12.5))
    assert pages.shape == (6, 3, 32, 32)
    assert picture.info["loop"] == 0 and picture.info["duration"] == 80
    background = frames().amin(dim=1) == 1
    assert (pages.permute(1, 0, 2, 3)[:, background] == 1).all()
    assert (pages - frames()).abs().mean() < 0.01


def test_gif_keeps_white_white_behind_soft_edges():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    blob = 1 - torch.exp(-((x - 48) ** 2 + (y - 48) ** 2) / 300)
    picture = torch.stack([blob, blob**2, 0.5 + blob / 2])[None]
    _, pages = opened(encode_gif(picture, 10))
    assert (pages[0, :, :8, :8] == 1).all()


def test_gif_of_one_frame_and_of_equal_frames():
    assert opened(encode_gif(frames(1), 10))[1].shape[0] == 1
    assert encode_gif(torch.ones(3, 3, 8, 8), 10)[:6] == b"GIF89a"


def test_webp_keeps_transparency():
    pictures = frames(channels=4)
    pictures[:, 3] = 0
    pictures[:, 3, 8:20] = 1
    picture, _ = opened(encode_webp(pictures, 10))
    assert picture.n_frames == 6 and picture.info["loop"] == 0
    assert np.asarray(picture.convert("RGBA"))[0, 0, 3] == 0


def test_mp4_is_a_video_of_even_size():
    av = pytest.importorskip("av", reason="PyAV is not installed")
    data = encode_mp4(torch.rand(5, 3, 33, 48), 10)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (48, 32)
        assert float(stream.average_rate) == 10
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_mp4_without_an_encoder_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingDependency, match="pip install av"):
        with Outputs() as outputs:
            animation_output(outputs, str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.GIF", "frames", "frames.d/"])
def test_the_name_chooses_the_kind(tmp_path, name):
    with Outputs() as outputs:
        write_animation(animation_output(outputs, f"{tmp_path}/{name}"), frames(3))
    found = tmp_path / name
    if found.is_dir():
        assert sorted(p.name for p in found.iterdir()) == ["0000.png", "0001.png", "0002.png"]
        np.testing.assert_allclose(
            np.asarray(Image.open(found / "0001.png")) / 255, frames()[1].permute(1, 2, 0), atol=0.003
        )
    else:
        assert Image.open(found).n_frames == 3


def test_wrong_names_and_frames_are_refused(tmp_path):
    with Outputs() as outputs:
        with pytest.raises(InputError, match=".avi"):
            animation_output(outputs, str(tmp_path / "a.avi"))
        output = animation_output(outputs, str(tmp_path / "a.gif"))
        for wrong in (torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8), torch.zeros(2, 2, 8, 8)):
            with pytest.raises(InputError, match="frames"):
                write_animation(output, wrong)
        for fps in (0, -1, 101):
            with pytest.raises(InputError, match="frames a second"):
                write_animation(output, frames(), fps)
    with pytest.raises(InputError, match="2x2"):
        animations.encode_mp4(torch.zeros(1, 3, 1, 8), 10)
    assert list(tmp_path.iterdir()) == []


def test_gif_strays_from_no_color():
    """Smooth colors of many hues: no pixel is far off (error diffusion in coarse color cells left black specks)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    pictures = torch.stack([torch.stack([x, y * phase, (1 - x) * (1 - phase)]) for phase in torch.linspace(0, 1, 6)])
    _, pages = opened(encode_gif(pictures, 10))
    assert (pages - pictures).abs().max() < 0.2 and (pages - pictures).abs().mean() < 0.03
