"""Turntables and other picture sequences as GIF, WebP, MP4, or a folder of PNG files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from .errors import InputError, MissingDependency
from .files import Output, Outputs
from .images import encode_png, to_pillow

DITHER = 4.0  # of 255: hides the steps of a palette made for these very pictures
SUFFIXES = (".gif", ".webp", ".mp4")


def animation_output(outputs: Outputs, path: str) -> Output:
    """The output for `path`: a file for .gif, .webp, .mp4, a folder of PNG files for a name without a suffix.

    Raises InputError for another suffix and MissingDependency for .mp4 without an encoder: both before any work.
    """
    suffix = Path(path).suffix.lower()
    if not suffix or str(path).endswith(("/", "\\")):
        return outputs.folder(path)
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in {suffix}; use {', '.join(SUFFIXES)} or a folder name.")
    if suffix == ".mp4":
        _mp4_encoder()
    return outputs.file(path)


def write_animation(output: Output, frames: Tensor, fps: float = 15.0) -> None:
    """Write frames [F, 3 or 4, H, W] in [0, 1] to an output of `animation_output`.

    Animations loop; GIF keeps one palette for all frames so that colors do not flicker, and 1/100 s timing.
    """
    check_frames(frames, fps)
    suffix = output.path.suffix.lower()
    if output.is_folder:
        for i, frame in enumerate(frames):
            output.write(encode_png(frame), f"{i:04d}.png")
    elif suffix == ".gif":
        output.write(encode_gif(frames, fps))
    elif suffix == ".webp":
        output.write(encode_webp(frames, fps))
    else:
        output.write(encode_mp4(frames, fps))


def check_frames(frames: Tensor, fps: float) -> None:
    """Raise InputError unless frames are [F, 3 or 4, H, W] with F >= 1 and 0 < fps <= 100."""
    if frames.ndim != 4 or frames.shape[1] not in (3, 4) or 0 in frames.shape:
        raise InputError(f"The frames have shape {list(frames.shape)}; they must be [F, 3 or 4, H, W].")
    if not 0 < fps <= 100:
        raise InputError(f"The animation has {fps:g} frames a second; use more than 0 and at most 100.")


def encode_gif(frames: Tensor, fps: float) -> bytes:
    """Frames [F, 3, H, W] in [0, 1] as the bytes of a looping GIF.

    One palette for all frames and an ordered dither that stays where it is: nothing flickers. The most frequent color
    (the background) is kept exactly.
    """
    from PIL import Image

    pixels = np.stack([np.asarray(to_pillow(f[:3])) for f in frames])
    palette = _common_palette(pixels)
    pictures = []
    for indices in _dithered(pixels, palette):
        picture = Image.fromarray(indices).convert("P")
        picture.putpalette(palette.astype(np.uint8).tobytes())
        pictures.append(picture)
    return _encode_many(pictures, "GIF", duration=max(2, round(100 / fps)) * 10, optimize=False, disposal=1)


def _common_palette(pixels: np.ndarray) -> np.ndarray:
    """256 colors [256, 3] for all frames [F, H, W, 3] uint8; the first is the most frequent one, exactly."""
    from PIL import Image

    chosen = pixels[:: max(1, len(pixels) // 12)]
    sheet = chosen.reshape(-1, *chosen.shape[2:])
    packed = sheet.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colors, counts = np.unique(packed, return_counts=True)
    background = int(colors[counts.argmax()])
    background = [background >> 16, background >> 8 & 255, background & 255]
    quantized = Image.fromarray(sheet).quantize(colors=255, method=Image.Quantize.MEDIANCUT, kmeans=2)
    used = np.unique(np.asarray(quantized))
    rest = np.array(quantized.getpalette()).reshape(-1, 3)[used]
    return np.concatenate([[background], rest, np.tile([background], (255 - len(rest), 1))])


def _dithered(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Palette indices [F, H, W] uint8 of frames [F, H, W, 3] uint8.

    Pillow's own lookup with error diffusion is not used: it works on coarse cells of colors and strays far from some.
    """
    from scipy.spatial import cKDTree

    pattern = np.zeros((1, 1))
    for _ in range(3):  # Bayer's 8x8 order
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    offsets = (pattern + 0.5) / pattern.size - 0.5
    height, width = pixels.shape[1:3]
    offsets = np.tile(offsets, (height // 8 + 1, width // 8 + 1))[:height, :width, None] * DITHER
    cells = (np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 4) + 1.5
    nearest = cKDTree(palette).query(cells)[1].astype(np.uint8)
    moved = (pixels + offsets).round().clip(0, 255).astype(np.uint32) >> 2
    indices = nearest[moved @ np.array([1 << 12, 1 << 6, 1], np.uint32)]
    return np.where((pixels == palette[0]).all(axis=-1), np.uint8(0), indices)


def encode_webp(frames: Tensor, fps: float) -> bytes:
    """Frames [F, 3 or 4, H, W] in [0, 1] as the bytes of a looping WebP, quality 90."""
    from PIL import features

    if not features.check("webp"):
        raise MissingDependency("This Pillow was built without WebP; install a newer one (pip install -U pillow).")
    return _encode_many([to_pillow(f) for f in frames], "WEBP", duration=round(1000 / fps), quality=90, method=4)


def _encode_many(pictures: list, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    pictures[0].save(stream, format=kind, save_all=True, append_images=pictures[1:], loop=0, **options)
    return stream.getvalue()


def encode_mp4(frames: Tensor, fps: float) -> bytes:
    """Frames [F, 3, H, W] in [0, 1] as the bytes of an H.264 MP4; odd sizes lose their last row or column."""
    height, width = (n - n % 2 for n in frames.shape[-2:])
    if not height or not width:
        raise InputError("A video needs pictures of at least 2x2 pixels.")
    pictures = (to_pillow(f[:3, :height, :width]) for f in frames)
    return _mp4_encoder()(pictures, width, height, fps)


def _mp4_encoder():
    """The first installed encoder: PyAV (which ComfyUI brings along), else imageio-ffmpeg."""
    try:
        import av  # noqa: F401

        return _encode_mp4_av
    except ImportError:
        pass
    try:
        import imageio_ffmpeg  # noqa: F401

        return _encode_mp4_ffmpeg
    except ImportError:
        raise MissingDependency(
            "An .mp4 needs the package av (pip install av); .gif, .webp and a folder need nothing."
        ) from None


def _encode_mp4_av(pictures: Iterable, width: int, height: int, fps: float) -> bytes:
    from fractions import Fraction

    import av

    stream = io.BytesIO()
    with av.open(stream, mode="w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"crf": "16"}
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_image(picture)))
        container.mux(video.encode())
    return stream.getvalue()


def _encode_mp4_ffmpeg(pictures: Iterable, width: int, height: int, fps: float) -> bytes:
    import tempfile

    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:  # ffmpeg seeks in an .mp4, so it cannot go through a pipe
        path = str(Path(folder) / "video.mp4")
        writer = imageio_ffmpeg.write_frames(
            path, (width, height), fps=fps, macro_block_size=1, output_params=["-crf", "16"]
        )
        writer.send(None)
        for picture in pictures:
            writer.send(picture.tobytes())
        writer.close()
        return Path(path).read_bytes()
