"""The key contract of the full-size networks, built on the meta device: names, shapes and dtypes."""

import torch

from sightline.models.sam3d import checkpoint as sam3d
from sightline.models.trellis1 import checkpoint as trellis1
from sightline.models.trellis1.dinov2 import DinoV2, DinoV2Config

SYSTEM, KIND, SUFFIX = "relaxflow", "keys", ".json"


def contract(fixture):
    """The published list, and our tensors under the published names."""
    data, name = fixture.json(), fixture.name.removeprefix("keys_")
    config = data["config"]
    if name.startswith("trellis_"):
        model = trellis1.build_model(config["name"], config["args"])
        return data, dict(model.state_dict())
    if name.startswith("dinov2"):
        with torch.device("meta"):
            model = DinoV2(DinoV2Config.from_args(config))
        return data, dict(model.state_dict())
    part = name.removeprefix("sam3d_").removesuffix("_backbone")
    model = sam3d.build_part(part, config if "model_channels" in config else None)
    return data, sam3d.published_names(part, model)


def test_names_shapes_dtypes(fixture, ledger):
    data, tensors = contract(fixture)
    found = {name: [list(v.shape), str(v.dtype).removeprefix("torch.")] for name, v in tensors.items()}
    ledger.exact("keys", found, data["keys"])
    assert len(found) == data["n_keys"]
    ledger.exact("keys.parameters", sum(v.numel() for v in tensors.values()), data["n_params"])
