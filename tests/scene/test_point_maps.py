"""Point maps from arrays and files, and OpenEXR pictures in every form that is read."""

import struct
import zlib

import numpy as np
import pytest
import torch

from sightline.scene.errors import InputError
from sightline.scene.exr import read_exr
from sightline.scene.point_maps import check_point_map, point_map, read_point_map

CODES = {"none": 0, "RLE": 1, "ZIPS": 2, "ZIP": 3, "PIZ": 4}


def points(height=37, width=21, dtype=np.float32):
    values = np.random.default_rng(0).normal(size=(height, width, 3)).round(1).astype(dtype)
    values[:5] = 0
    return values


def run_lengths(data):
    """Runs of equal bytes, and single bytes."""
    out, at = bytearray(), 0
    while at < len(data):
        end = at
        while end + 1 < len(data) and data[end + 1] == data[at] and end - at < 126:
            end += 1
        out += struct.pack("b", end - at) + data[at : at + 1] if end > at else b"\xff" + data[at : at + 1]
        at = end + 1
    return bytes(out)


def packed(raw, code):
    if code == 0:
        return raw
    halves = raw[0::2] + raw[1::2]
    steps = bytes([halves[0], *((b - a + 128) & 255 for a, b in zip(halves, halves[1:]))])
    small = run_lengths(steps) if code == 1 else zlib.compress(steps)
    return small if len(small) < len(raw) else raw


def exr(values, names="XYZ", compression="ZIP", prefix="", version=2):
    """A file as the format's description says, written without our reader's code."""
    code = CODES[compression]
    height, width, _ = values.shape
    kind = 1 if values.dtype == np.float16 else 2
    order = sorted(range(3), key=lambda i: names[i])
    table = b"".join(f"{prefix}{names[i]}".encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for i in order)
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = {"channels": ("chlist", table + b"\0"), "compression": ("compression", bytes([code])),
                  "dataWindow": ("box2i", box)}  # fmt: skip
    head = struct.pack("<iI", 20000630, version)
    for name, (what, value) in attributes.items():
        head += name.encode() + b"\0" + what.encode() + b"\0" + struct.pack("<i", len(value)) + value
    head += b"\0"
    lines = 16 if code == 3 else 1
    blocks = []
    for y in range(0, height, lines):
        rows = range(y, min(y + lines, height))
        raw = b"".join(np.ascontiguousarray(values[row, :, i]).tobytes() for row in rows for i in order)
        body = packed(raw, code)
        blocks.append(struct.pack("<ii", y, len(body)) + body)
    offsets, at = b"", len(head) + 8 * len(blocks)
    for block in blocks:
        offsets += struct.pack("<Q", at)
        at += len(block)
    return head + offsets + b"".join(blocks)


@pytest.mark.parametrize("compression", ["none", "RLE", "ZIPS", "ZIP"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_exr_files_are_read_exactly(compression, dtype):
    values = points(dtype=dtype)
    found = read_exr(exr(values, compression=compression, prefix="View.Position."))
    assert set(found) == set("XYZ")
    for i, name in enumerate("XYZ"):
        assert np.array_equal(found[name], values[..., i].astype(np.float32))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (exr(points(), compression="PIZ"), "PIZ"),
        (exr(points(), version=0x202), "tiles"),
        (exr(points(), version=0x1002), "several parts"),
        (exr(points())[:-40], "cut short"),
        (exr(points())[:60], "damaged or cut short"),
        (b"not a picture at all", "no EXR file"),
    ],
)
def test_other_exr_files_get_one_sentence(data, complaint):
    with pytest.raises(InputError, match=complaint):
        read_exr(data)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npz", "a.exr", "rgb.exr"])
def test_files_of_every_kind_say_the_same(tmp_path, name):
    values = points()
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, values)
    elif name == "a.npz":
        np.savez(path, points=values, depth=values[..., 2])
    elif name == "b.npz":
        np.savez(path, values.transpose(2, 0, 1))
    else:
        path.write_bytes(exr(values, "RGB" if "rgb" in name else "XYZ"))
    found = read_point_map(path)
    expected = torch.from_numpy(values).permute(2, 0, 1) * torch.tensor([-1.0, -1.0, 1.0])[:, None, None]
    assert torch.equal(found, expected)


def test_axes():
    values = torch.tensor([1.0, 2.0, 3.0]).expand(4, 5, 3)
    for axes, expected in (("opencv", [-1, -2, 3]), ("opengl", [-1, 2, -3]), ("pytorch3d", [1, 2, 3])):
        assert point_map(values, axes)[:, 0, 0].tolist() == expected
    with pytest.raises(InputError, match="unknown"):
        point_map(values, "blender")


def test_bad_files_get_one_sentence(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY nothing")
    np.save(tmp_path / "flat.npy", np.zeros((4, 4)))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    np.savez(tmp_path / "two.npz", a=points(), b=points())
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "gray.exr").write_bytes(exr(points(), "ABC"))
    np.save(tmp_path / "nan.npy", np.full((4, 4, 3), np.nan))
    for name, complaint in {
        "a.npy": "cannot be read", "flat.npy": "height, width, 3", "words.npy": "not numbers", "two.npz": "`points`",
        "torn.npz": "cannot be read", "gray.exr": "channels A, B, C", "nan.npy": "knows no point",
        "a.png": "no point map", "gone.npy": "does not exist",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=complaint) as error:
            read_point_map(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_a_map_must_fit_the_picture_and_know_its_object():
    selected = torch.zeros(48, 64, dtype=torch.bool)
    selected[10:20, 10:20] = True
    known = torch.rand(3, 48, 64) + 1
    assert torch.equal(check_point_map(known, selected), known)
    assert check_point_map(known[:, ::2, ::2], selected).shape == (3, 24, 32)
    with pytest.raises(InputError, match="64 x 64, the picture 64 x 48"):
        check_point_map(torch.rand(3, 64, 64), selected)
    hidden = torch.where(selected, torch.nan, known)
    with pytest.raises(InputError, match="no point of the object"):
        check_point_map(hidden, selected)
    hidden[:, 12, 12] = 1.0
    assert torch.isfinite(check_point_map(hidden, selected)[:, 12, 12]).all()
