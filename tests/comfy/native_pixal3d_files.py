"""Writes a tiny random Pixal3D for core's loaders: ``python native_pixal3d_files.py COMFYUI_TREE BASE_FOLDER``.

`broken_inputs/tiny_pixal3d.py` lets a server read the files; used by `test_native_relaxflow_workflow.py`.
"""

import importlib.util
import json
import sys
from pathlib import Path

from inside_comfyui import answer, enter

SIZES = "sightline_test_sizes"
FILES = {
    "diffusion_models": "pixal3d_int8_convrot.safetensors",
    "clip_vision": "dino_v3_L_naf_fp32.safetensors",
    "vae": "trellis_2_shape_vae_bf16.safetensors",
}
FEW = 3.0  # deviations: so far above the mean are the logits of voxels, of which there are few


def contents():
    """{folder: (weights, sizes)}; keys by which core knows a file and that a tiny network lacks are added."""
    import torch
    from native_trellis2 import DINO, NAF, tiny_clip_vision, tiny_model
    from native_trellis2_chain import SHAPE, STRUCTURE, tiny_vaes

    model, clip = tiny_model(), tiny_clip_vision()
    network = model.model.diffusion_model.state_dict()
    encoder = dict(clip.model.state_dict()) | {f"naf.{k}": v for k, v in clip.naf.model.state_dict().items()}
    encoder["layer.23.attention.o_proj.bias"] = torch.zeros(1)
    shape = tiny_vaes()[0]
    logits = shape.decode_structure(torch.randn(1, 8, 16, 16, 16, generator=torch.Generator().manual_seed(1)))
    shape.struct_dec.out_layer[2].bias -= logits.mean() + FEW * logits.std()
    for level in shape.shape_dec.blocks[:-1]:
        level[-1].to_subdiv.bias.zero_()
    decoder = dict(shape.state_dict()) | {"shape_dec.blocks.1.16.to_subdiv.weight": torch.zeros(1)}
    config = {k: v for k, v in model.model.model_config.unet_config.items() if k != "dtype"}
    return {
        "diffusion_models": (network, config),
        "clip_vision": (encoder, {"dino": DINO, "naf": NAF}),
        "vae": (decoder, {"shape": SHAPE, "structure": STRUCTURE}),
    }


def write(models):
    import torch
    from safetensors.torch import save_file

    for folder, (weights, sizes) in contents().items():
        said = torch.tensor(list(json.dumps(sizes).encode()), dtype=torch.uint8)
        path = models / folder / FILES[folder]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.clone().contiguous() for name, value in weights.items()} | {SIZES: said}, str(path))
    return sorted(FILES.values())


if __name__ == "__main__":
    enter()
    if importlib.util.find_spec("comfy.ldm.trellis2") is None:
        answer({"absent": "TRELLIS.2 and Pixal3D models of its own"})
        sys.exit()
    import torch

    with torch.inference_mode():
        answer({"files": write(Path(sys.argv[-1]) / "models")})
