"""SeeThrough3D's saved scenes: what is read, and that nothing in them is ever executed."""

import dataclasses
import io
import json
import os
import pickle
import random
import struct

import numpy as np
import pytest

from sightline.scene.document import SceneError, parse_document
from sightline.scene.document.examples import EXAMPLES, load_example
from sightline.scene.document.geometry import canonical
from sightline.scene.document.saved_pickle import load_plain, read_saved_scene, write_saved_scene


def saved(**changes) -> dict:
    """A scene as SeeThrough3D saves it: one-element lists, numpy scalars."""
    one = {
        "name": "a chair", "type": "chair", "dims": (1.0, 2, 0.5), "x": [-6.5], "y": [0.25], "z": [0.0],
        "azimuth": [np.float64(0.5)], "bbox": [(0, 0, 0, 0)],
    }  # fmt: skip
    camera = {"camera_elevation": np.float64(0.2), "lens": [np.float64(50.0)], "global_scale": 1.0}
    inference = {"height": 512, "width": 512, "seed": 7, "guidance_scale": 3.5, "num_inference_steps": 25}
    value = {"subjects_data": [one], "camera_data": camera, "surrounding_prompt": "in a room"}
    return value | {"inference_params": inference | {"checkpoint": None}} | changes


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_scalars_and_lists_of_one(protocol):
    value = saved()
    if protocol < 3:  # old protocols need a third global for bytes, which stays refused
        value["subjects_data"][0]["azimuth"], value["camera_data"] = [0.5], {"camera_elevation": 0.2, "lens": 50.0}
    document = read_saved_scene(pickle.dumps(value, protocol=protocol))
    (one,) = document.objects
    assert one.position == (-0.5, 0.25, 0.0) and one.size == (1.0, 2.0, 0.5) and one.preset == "chair"
    assert one.yaw_deg == pytest.approx(np.degrees(0.5)) and document.camera.lens_mm == 50
    assert document.output.seed == 7 and document.prompt.background == "in a room"


def test_zero_extent_is_raised_with_a_note():
    value = saved()
    value["subjects_data"][0]["dims"] = (0, 1, 1)
    document = read_saved_scene(pickle.dumps(value))
    assert document.objects[0].size[0] == 0.001 and any("W195" in note for note in document.provenance.notes)


@pytest.mark.parametrize("name", EXAMPLES)
def test_round_trip_of_the_examples(name):
    """What is saved has the camera at home, so scenes are compared as they lie then."""
    document = canonical(load_example(name)).document
    data = write_saved_scene(load_example(name))
    back = canonical(read_saved_scene(data)).document
    for one, other in zip(document.objects, back.objects, strict=True):
        assert (one.prompt, one.preset) == (other.prompt, other.preset)
        assert np.allclose(
            [*one.position, *one.size, one.yaw_deg], [*other.position, *other.size, other.yaw_deg], atol=1e-6
        )
    assert back.camera.orbit.elevation_deg == pytest.approx(document.camera.orbit.elevation_deg)
    assert (back.output.size, back.output.seed) == (document.output.size, document.output.seed)
    plain = pickle.loads(data)  # what the reference does with it
    assert plain["camera_data"]["global_scale"] == 1.0 and plain["subjects_data"][0]["bbox"] == [(0, 0, 0, 0)]


class Call:
    """Unpickling this calls a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def hostile(canary: str):
    """Pickles that would write the file `canary`, or eat memory, if anything in them were run."""
    order = f"open({canary!r}, 'w').write('ran')"
    calls = [
        Call(eval, order), Call(exec, order), Call(os.system, f"echo ran > {canary}"), Call(os.mkdir, canary),
        Call(open, canary, "w"), Call(getattr, "x", "__class__"), Call(__import__, "this"),
        Call(bytearray, 1 << 40), Call(io.FileIO, canary, "w"), Call(np.zeros, 10**12), Call(np.save, canary, [1]),
    ]  # fmt: skip
    for protocol in range(6):
        for call in calls:
            for place in (call, {"subjects_data": [call]}, saved(surrounding_prompt=call)):
                yield pickle.dumps(place, protocol=protocol)
    numpy_call = pickle.dumps(np.float64(1.0))
    for other in (b"posix", b"nt", b"builtins", b"numpy.core", b"subprocess"):
        yield numpy_call.replace(b"numpy._core.multiarray", other).replace(b"numpy.core.multiarray", other)
    yield b"cos\nsystem\n(S'echo ran > " + canary.encode() + b"'\ntR."
    yield b"(ios\nsystem\nS'echo ran > " + canary.encode() + b"'\n."
    yield b"cbuiltins\neval\n(V" + order.encode() + b"\ntR."
    yield b"\x80\x04cnumpy\ndtype\n(cposix\nsystem\ntR."
    yield b"\x80\x02\x82\x01."  # extension registry
    yield b"P1\n."  # persistent id
    yield b"\x80\x05\x97."  # out-of-band buffer
    yield b"\x80\x04\x8b" + struct.pack("<i", 1 << 30)  # a number of a gigabyte
    yield b"\x80\x04" + b"(" * 40_000 + b"."
    yield b"\x80\x04" + b"]" * 40_000 + b"a" * 39_999 + b"."
    yield b"\x80\x04]q\x00h\x00a."  # a list that holds itself
    yield b"\x80\x04" + b"N" * 60_000 + b"."
    yield b"\x80\x04X" + struct.pack("<I", 1 << 31) + b"abc"
    yield b"."
    yield b""
    yield b"\0" * (2 << 20)


def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path):
    canary = tmp_path / "canary"
    count = 0
    for data in hostile(str(canary)):
        count += 1
        with pytest.raises(SceneError) as caught:
            read_saved_scene(data)
        assert caught.value.code == "E150" and "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert count >= 200 and not list(tmp_path.iterdir())


def test_mutated_pickles_are_read_or_refused_and_nothing_runs(tmp_path):
    draw, source, canary = random.Random(1), pickle.dumps(saved()), tmp_path / "canary"
    bomb = pickle.dumps(Call(os.mkdir, str(canary)), protocol=4)[2:-1]
    refused = 0
    for _ in range(300):
        data = bytearray(source)
        for _ in range(draw.randrange(1, 6)):
            at = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                del data[at : at + draw.randrange(1, 30)]
            elif kind == 2:
                data[at:at] = draw.randbytes(3)
            else:
                data[at:at] = bomb
            if not data:
                break
        try:
            read_saved_scene(bytes(data))
        except SceneError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200 and not canary.exists()


def test_the_canary_would_have_sung(tmp_path):
    """The control: Python's own unpickler runs what ours refuses."""
    canary = tmp_path / "canary"
    data = pickle.dumps(Call(os.mkdir, str(canary)))
    with pytest.raises(SceneError, match="contains program code and was not opened"):
        load_plain(data)
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists()


def test_other_dtypes_are_refused():
    for value in (np.float32(1), np.int64(1), np.bool_(True)):
        with pytest.raises(SceneError):
            load_plain(pickle.dumps(value))


def test_the_json_form_is_read_too():
    value = json.loads(json.dumps(saved(), default=float))
    assert parse_document(value).objects[0].position == (-0.5, 0.25, 0.0)


def test_a_camera_that_looks_up_cannot_be_saved():
    document = load_example("mars")
    camera = dataclasses.replace(document.camera, orbit=dataclasses.replace(document.camera.orbit, elevation_deg=0.0))
    with pytest.raises(SceneError, match="looks? level|stands below"):
        write_saved_scene(document.replace(cameras=(camera,)))
