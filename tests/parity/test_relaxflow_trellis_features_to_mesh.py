"""FlexiCubes: vertices, faces and attributes from the features of sparse cubes."""

from sightline.models.trellis1.mesh import features_to_mesh

SYSTEM, KIND = "relaxflow", "trellis_features_to_mesh"


def test_mesh(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    mesh = features_to_mesh(t["coords"][:, 1:], t["feats"], meta["res"], meta["use_color"])
    ledger.exact("trellis.mesh.faces", mesh.faces, t["faces"])
    ledger.close("trellis.mesh.vertices", mesh.vertices, t["vertices"], atol=1e-4)
    if meta["use_color"]:
        ledger.close("trellis.mesh.attributes", mesh.attributes, t["vertex_attrs"], atol=1e-4)
