"""The key contract of the three published files: names, shapes, dtypes, and what was trained."""

import math

from sightline.models.genrecon.checkpoint import LoraConfig, contract, stage_of

SYSTEM, KIND, SUFFIX = "genrecon", "keys", ".json"


class Shapes(dict):
    """A state dict of which only shapes are known."""

    def __getitem__(self, key):
        import torch

        return torch.empty(super().__getitem__(key)["shape"], device="meta")


def test_keys(fixture, ledger):
    given = fixture.json()
    lora = given["model_config"].get("lora") or {"r": 8, "alpha": 16}
    found = contract(given["model_config"]["args"], LoraConfig(**lora))
    ledger.exact("keys", found, given["keys"])
    ledger.exact("keys.count", len(found), given["num_keys"])
    sizes = {key: math.prod(entry["shape"]) for key, entry in found.items()}
    ledger.exact("keys.elements", sum(sizes.values()), given["num_elements"])
    trained = sum(size for key, size in sizes.items() if found[key]["trained"])
    ledger.exact("keys.trained_elements", trained, given["num_trainable_elements"])
    stages = {"sparse_structure.pt": "structure", "shape_slat.pt": "shape", "texture_slat.pt": "texture"}
    ledger.exact("keys.stage", stage_of(Shapes(given["keys"])), stages[given["checkpoint"]])
