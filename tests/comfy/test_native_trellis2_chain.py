"""The same tiny Pixal3D weights from one picture to a mesh: through core's nodes, and through our stages."""

import pytest
from inside_comfyui import ask


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    return ask("native_trellis2_chain.py", tmp_path_factory.mktemp("base"))


def test_structure_and_its_voxels(found):
    assert found["structure"] < 1e-4
    count, equal = found["coords"]
    assert equal and count > 50


@pytest.mark.parametrize("stage", ["low", "high", "texture"])
def test_latents(found, stage):
    assert found[stage] < 1e-4
    assert min(found["moved"]) > 0.5, "the latents are not all zero"


def test_voxels_of_the_high_stage(found):
    count, equal = found["high_coords"]
    assert equal and count > 200
    assert found["resolution"] == [1024, 1024]


def test_mesh(found):
    """Rounding may move a logit over its threshold: a voxel in ten thousand is allowed, none was seen."""
    theirs, ours, shared, same_rows = found["voxels"]
    assert max(theirs, ours) - shared <= 1e-4 * theirs
    assert found["vertices"] < 1e-3, "in voxels"
    faces, our_faces, different = found["faces"]
    assert faces > 1000 and abs(faces - our_faces) <= 1e-3 * faces
    if same_rows:
        assert different <= 1e-3 * faces


def test_texture_attributes(found):
    assert found["colors"] < 1e-4 and found["color_range"] > 0.1
