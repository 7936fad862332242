import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.scene.errors import InputError
from sightline.scene.frames import WORLD_FRAMES
from sightline.scene.splat_files import (
    MAX_SPLATS,
    decode_ply,
    decode_splat,
    encode_ply,
    encode_splat,
    read_splats,
    write_splats,
)
from sightline.scene.splats import Splats


def make(count=7, degree=0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Splats(
        torch.randn(count, 3, generator=g),
        torch.rand(count, 3, generator=g) * 0.1 + 0.001,
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        torch.rand(count, generator=g) * 0.98 + 0.01,
        torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.5,
    )


def assert_same(found, wanted, tolerance=1e-5):
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=tolerance, rtol=tolerance)
    same_rotation = (found.quats * wanted.quats).sum(dim=-1).abs()
    torch.testing.assert_close(same_rotation, torch.ones_like(same_rotation), atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 20),
    degree=st.integers(0, 4),
    frame=st.sampled_from(sorted(WORLD_FRAMES)),
    seed=st.integers(0, 99),
)
def test_ply_round_trip(count, degree, frame, seed):
    splats = make(count, degree, seed)
    assert_same(decode_ply(encode_ply(splats, frame), frame), splats)


@pytest.mark.parametrize("frame", sorted(WORLD_FRAMES))
def test_splat_round_trip_to_8_bits(frame):
    splats = make(50)
    found = decode_splat(encode_splat(splats, frame), frame)
    torch.testing.assert_close(found.means, splats.means)
    torch.testing.assert_close(found.scales, splats.scales)
    torch.testing.assert_close(found.opacities, splats.opacities, atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(found.rgb, splats.rgb.clamp(0, 1), atol=0.5 / 255 + 1e-6, rtol=0)
    assert (1 - (found.quats * splats.quats).sum(dim=-1).abs()).max() < 1e-3


def test_ply_is_the_layout_of_3dgs():
    """Names in the order of the original exporter; logarithms and logits; harmonics channel by channel."""
    splats = make(3, degree=1)
    data = encode_ply(splats, "z_up")
    header, _, body = data.partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 3"]
    names = [line.removeprefix("property float ") for line in lines[3:]]
    assert names == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(9)),
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    row = dict(zip(names, np.frombuffer(body, "<f4").reshape(3, len(names))[1].tolist()))
    assert row["f_dc_2"] == pytest.approx(splats.sh[1, 0, 2].item())
    assert row["f_rest_1"] == pytest.approx(splats.sh[1, 2, 0].item())  # red of the second harmonic
    assert row["f_rest_3"] == pytest.approx(splats.sh[1, 1, 1].item())  # green of the first
    assert row["scale_2"] == pytest.approx(splats.scales[1, 2].log().item(), rel=1e-5)
    assert row["opacity"] == pytest.approx(torch.logit(splats.opacities[1]).item(), rel=1e-4)
    assert [row[f"rot_{i}"] for i in range(4)] == pytest.approx(splats.quats[1].tolist())


def test_files_are_y_down_with_the_front_to_the_viewer():
    splats = make(1)
    body = np.frombuffer(encode_ply(splats).partition(b"end_header\n")[2], "<f4")
    x, y, z = splats.means[0].tolist()
    assert body[:3].tolist() == pytest.approx([y, -z, -x])
    assert np.frombuffer(encode_splat(splats)[:12], "<f4").tolist() == pytest.approx([y, -z, -x])


def test_splat_records_are_32_bytes_in_the_known_layout():
    splats = Splats.from_rgb(
        torch.tensor([[1.0, 2, 3]]), torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([0.5]), torch.tensor([[1.0, 0.0, 0.2]]),
    )  # fmt: skip
    data = encode_splat(splats, "z_up")
    assert len(data) == 32
    assert np.frombuffer(data[:24], "<f4").tolist() == pytest.approx([1, 2, 3, 0.1, 0.2, 0.3])
    assert list(data[24:]) == [255, 0, 51, 128, 255, 128, 128, 128]


def rewritten(splats, order=">", text=False, shuffled=False, extra=False, kind="f4"):
    """The same splats as another program might write them."""
    data = encode_ply(splats)
    header, _, body = data.partition(b"end_header\n")
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property")]
    columns = dict(zip(names, np.frombuffer(body, "<f4").reshape(len(splats), -1).T))
    if extra:
        columns = {"segment": np.arange(len(splats)), **columns}
    if shuffled:
        columns = {name: columns[name] for name in sorted(columns, reverse=True)}
    form = "ascii" if text else {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    word = {"f4": "float32", "f8": "double"}[kind]
    head = ["ply", f"format {form} 1.0", "comment made elsewhere", "element camera 1"]
    head += ["property uchar id", f"element vertex {len(splats)}"]
    head += [*(f"property {word} {name}" for name in columns), "end_header", ""]
    table = np.stack([np.asarray(c, np.float64) for c in columns.values()], axis=1)
    if text:
        rows = "\n".join(" ".join(repr(float(v)) for v in row) for row in table)
        return "\r\n".join(head).encode() + f"7\n{rows}\n".encode()
    return "\n".join(head).encode() + b"\7" + table.astype(order + kind).tobytes()


@pytest.mark.parametrize(
    "options",
    [{"order": ">"}, {"order": "<", "kind": "f8"}, {"text": True}, {"shuffled": True}, {"extra": True, "order": "<"}],
)
def test_files_of_other_programs_are_read(options):
    splats = make(5, degree=1)
    assert_same(decode_ply(rewritten(splats, **options)), splats)


def test_zero_quaternions_become_the_identity():
    splats = make(2)
    splats.quats[0] = 0
    assert decode_ply(encode_ply(splats, "z_up"), "z_up").quats[0].tolist() == [1, 0, 0, 0]


def test_opaque_and_invisible_gaussians_stay_finite():
    splats = make(2)
    splats.opacities[:] = torch.tensor([0.0, 1.0])
    found = decode_ply(encode_ply(splats))
    torch.testing.assert_close(found.opacities, splats.opacities, atol=2e-6, rtol=0)


GOOD = encode_ply(make(4, degree=1))


def replaced(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


BAD_PLY = {
    "body cut": (GOOD[:-10], "cut short: it announces 4 splats and holds 3"),
    "header cut": (GOOD[:100], "no PLY header"),
    "no end": (b"ply\n" + b"comment x\n" * 10_000, "no PLY header"),
    "huge count": (replaced(b"vertex 4", b"vertex %d" % (MAX_SPLATS + 1)), "more than the"),
    "count of many digits": (replaced(b"vertex 4", b"vertex " + b"9" * 5000), "no sense|more than"),
    "negative count": (replaced(b"vertex 4", b"vertex -4"), "no sense"),
    "no splats": (replaced(b"vertex 4", b"vertex 0"), "no splats"),
    "no vertices": (replaced(b"element vertex", b"element point"), "no element `vertex`"),
    "unknown type": (replaced(b"property float x", b"property quad x"), "no sense"),
    "unknown format": (replaced(b"binary_little_endian", b"morse"), "morse"),
    "point cloud": (replaced(b"property float scale_1", b"property float size_1"), "lacks the properties scale_1"),
    "partial degree": (replaced(b"property float f_rest_8\n", b"property float other\n"), "8 f_rest"),
    "twice": (replaced(b"property float ny", b"property float nx"), "twice"),
    "list": (replaced(b"property float nx", b"property list uchar int nx"), "list properties"),
    "word": (replaced(b"property float nx", b"please run this"), "no sense"),
    "property first": (b"ply\nproperty float x\nend_header\n", "no sense"),
    "text with letters": (rewritten(make(2), text=True)[:-3] + b"x\n", "not 17 numbers"),
    "text cut": (rewritten(make(3), text=True).rsplit(b"\n", 2)[0], "cut short"),
}


@pytest.mark.parametrize("name", BAD_PLY)
def test_damaged_ply_files_are_one_sentence(name):
    data, says = BAD_PLY[name]
    with pytest.raises(InputError, match=says) as error:
        decode_ply(data, name="a.ply")
    assert str(error.value).startswith("a.ply") and "\n" not in str(error.value)


def test_numbers_that_are_not_finite_are_refused():
    splats = make(4)
    splats.means[2, 0] = float("inf")
    with pytest.raises(InputError, match="1 of 4"):
        encode_ply(splats)
    body = np.frombuffer(GOOD.partition(b"end_header\n")[2], "<f4").copy()
    columns = len(body) // 4
    body[0] = np.nan
    data = GOOD.partition(b"end_header\n")[0] + b"end_header\n" + body.tobytes()
    assert columns == 26
    with pytest.raises(InputError, match="a.ply: 1 of 4 splats have `means`"):
        decode_ply(data, name="a.ply")


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(GOOD)), flip=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_random_damage_is_read_or_refused_never_worse(cut, flip, value):
    data = bytearray(GOOD)
    data[flip] = value
    try:
        decode_ply(bytes(data[:cut]))
    except InputError:
        pass


def test_damaged_splat_files_are_refused():
    data = encode_splat(make(3))
    with pytest.raises(InputError, match="cut short"):
        decode_splat(data[:-1])
    with pytest.raises(InputError):
        decode_splat(b"")
    with pytest.raises(InputError):
        decode_splat(np.full(8, np.nan, "<f4").tobytes())
    with pytest.raises(InputError, match="negative"):
        decode_splat(np.full(8, -1, "<f4").tobytes())


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".PLY"])
def test_files_go_through_the_disk(tmp_path, suffix):
    splats = make(30)
    path = write_splats(tmp_path / f"a{suffix}", splats)
    assert path == (tmp_path / f"a{suffix}").resolve()
    torch.testing.assert_close(read_splats(path).means, splats.means)
    with pytest.raises(InputError, match="exists"):
        write_splats(path, splats)
    write_splats(path, make(10), overwrite=True)
    assert len(read_splats(path)) == 10


def test_reading_and_writing_refuse_other_kinds(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"")
    (tmp_path / "b.ply").write_bytes(b"solid x")
    for name, says in (("a.ply", "empty"), ("b.ply", "no splat file"), ("c.ply", "does not exist"), (".", "a folder")):
        with pytest.raises(InputError, match=says):
            read_splats(tmp_path / name)
    with pytest.raises(InputError, match=".obj"):
        write_splats(tmp_path / "a.obj", make())
    with pytest.raises(InputError, match="no splats"):
        write_splats(tmp_path / "e.ply", make(3)[:0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ply", "b.ply"]
