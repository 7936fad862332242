"""The shipped workflow of a room, as it is but with vertex colors, on a real server: the drawn room comes out."""

import numpy as np
from comfy_graphs import api_workflow, nodes_of
from scipy.spatial import cKDTree

from sightline.scene.mesh_read import decode_mesh
from sightline.training.genrecon.truth import true_surface
from sightline.training.procedural_room import make_plain_room

SEED = 4_000_000  # of the example room, which no stage has seen


def test_the_example_room_is_reconstructed(server):
    workflow = api_workflow("genrecon")
    (loader,) = nodes_of(workflow, "SightlineGenReconLoader")
    assert loader["inputs"]["models"] == "genrecon-tiny (embedded)"
    for node in nodes_of(workflow, "SightlineSceneBake"):
        node["inputs"].update(texture_size=0, filename_prefix="embedded_room")
    run = server.run(workflow)
    (path,) = [path for path in run.files if path.suffix == ".glb" and "output" in path.parts]
    part = decode_mesh(path.read_bytes(), "glb")
    made = np.stack([part.vertices[:, 0], -part.vertices[:, 2], part.vertices[:, 1]], 1)  # Y up -> Z up
    true = true_surface(make_plain_room(SEED))[0].numpy()
    near = cKDTree(true).query(made)[0], cKDTree(made).query(true)[0]
    assert float((near[0] < 0.1).mean()) > 0.6 and float((near[1] < 0.1).mean()) > 0.6
