"""`relaxflow`: one object, a manifest with resume and metrics, bad input; tiny random networks from files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sightline.cli.main import main
from sightline.kernels.point_metrics import compare_points, points_on_mesh, unit_cube, voxel_iou
from sightline.models.relaxflow.manifest import read_manifest
from sightline.models.trellis1.checkpoint import build_model
from sightline.models.trellis1.dinov2 import DinoV2, DinoV2Config
from sightline.scene.errors import InputError

FLOW = dict(model_channels=48, cond_channels=16, num_blocks=1, num_heads=2, mlp_ratio=2, qk_rms_norm=True)
DECODER = dict(resolution=8, model_channels=64, latent_channels=4, num_blocks=1, num_heads=2, window_size=4)
DINO = dict(embed_dim=16, depth=1, num_heads=2, img_size=28, patch_size=14)
REP = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 2, "3d_filter_kernel_size": 0.0009,
    "scaling_bias": 0.004, "opacity_bias": 0.1, "scaling_activation": "softplus",
}  # fmt: skip
NETWORKS = {
    "sparse_structure_flow_model": ("SparseStructureFlowModel", dict(FLOW, resolution=4, in_channels=4, out_channels=4,
                                                                     patch_size=1)),
    "slat_flow_model": ("SLatFlowModel", dict(FLOW, resolution=8, in_channels=4, out_channels=4, patch_size=2,
                                              num_io_res_blocks=2, io_block_channels=[16])),
    "sparse_structure_decoder": ("SparseStructureDecoder", dict(latent_channels=4, out_channels=1, num_res_blocks=1,
                                                                num_res_blocks_middle=1, channels=[16, 8])),
    "slat_decoder_gs": ("ElasticSLatGaussianDecoder", DECODER | {"representation_config": REP}),
    "slat_decoder_mesh": ("ElasticSLatMeshDecoder", DECODER | dict(model_channels=256,
                                                                   representation_config={"use_color": True})),
}  # fmt: skip


def weights(model, seed):
    generator = torch.Generator().manual_seed(seed)
    buffers = model.computed_buffers() if hasattr(model, "computed_buffers") else {}
    found = {}
    for name, value in model.state_dict().items():
        spread = 1.0 if value.ndim < 2 else value[0].numel() ** -0.5
        found[name] = buffers.get(name, torch.randn(value.shape, generator=generator) * spread).contiguous()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny family, beside pictures and a manifest."""
    root = tmp_path_factory.mktemp("relaxflow")
    (root / "family" / "ckpts").mkdir(parents=True)
    for seed, (role, (name, args)) in enumerate(NETWORKS.items()):
        stem = root / "family" / "ckpts" / role
        stem.with_suffix(".json").write_text(json.dumps({"name": name, "args": args}))
        state = weights(build_model(name, args), seed)
        if role == "sparse_structure_decoder":
            state["out_layer.2.bias"] -= 1.0
        save_file(state, stem.with_suffix(".safetensors"))
    sampler = {"params": {"steps": 3, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}}
    args = {
        "models": {role: f"ckpts/{role}" for role in NETWORKS},
        "sparse_structure_sampler": sampler,
        "slat_sampler": sampler,
        "slat_normalization": {"mean": [0.0] * 4, "std": [1.0] * 4},
    }
    (root / "family" / "pipeline.json").write_text(json.dumps({"args": args}))
    with torch.device("meta"):
        encoder = DinoV2(DinoV2Config(**DINO))
    save_file(weights(encoder, 9), root / "family" / "dinov2_vitl14_reg.safetensors")
    (root / "family" / "dinov2_vitl14_reg.json").write_text(json.dumps(DINO))
    for seed, name in enumerate(("image", "prior", "other")):
        rgba = np.random.default_rng(seed).integers(0, 256, (40, 40, 4), dtype=np.uint8)
        rgba[..., 3] = 0
        rgba[8:32, 8:32, 3] = 255
        Image.fromarray(rgba).save(root / f"{name}.png")
    Image.fromarray(np.zeros((40, 40, 4), dtype=np.uint8)).save(root / "clear.png")
    lines = [
        {"id": "a/1", "image": "image.png", "prior_images": ["prior.png", "other.png"], "gt_mesh": "truth.ply"},
        {"id": "b", "image": "image.png", "prior_images": "prior.png"},
    ]
    (root / "truth.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
        "0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
    )
    (root / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_one_object(folder, tmp_path):
    options = ["--priors", str(folder / "prior.png"), "--weights", str(folder / "family"), "--fov", "40"]
    out = [tmp_path / name for name in ("a.ply", "a.glb", "a.npz")]
    code = main(["relaxflow", str(folder / "image.png"), *options, "-o", str(out[0]), "--mesh", str(out[1]),
                 "--voxels", str(out[2])])  # fmt: skip
    assert code == 0 and all(path.stat().st_size > 100 for path in out)
    voxels = np.load(out[2])
    assert len(voxels["coords"]) == len(voxels["visible"]) > 0
    assert main(["relaxflow", str(folder / "image.png"), *options, "-o", str(out[0])]) == 2  # it exists


def test_a_manifest_goes_on_where_it_stopped(folder, tmp_path, capsys):
    command = ["relaxflow", "--manifest", str(folder / "list.jsonl"), "--weights", str(folder / "family"),
               "-o", str(tmp_path)]  # fmt: skip
    assert main(command) == 0
    first = json.loads((tmp_path / "a_1" / "result.json").read_text())
    assert {"chamfer", "f_score", "voxels", "evaluations"} <= set(first)
    assert "chamfer" not in json.loads((tmp_path / "b" / "result.json").read_text())
    (tmp_path / "b" / "result.json").unlink()
    capsys.readouterr()
    assert main(command) == 0 and capsys.readouterr().out.startswith("1/1 b:")
    assert main(command) == 0 and "done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["IMAGE"], "no priors"),
        (["IMAGE", "--priors", "clear.png"], "Prior 1"),
        (["clear.png", "--priors", "prior.png"], "The picture"),
        (["IMAGE", "--priors", "prior.png", "--sigma", "-1"], "sigma"),
        (["IMAGE", "--priors", "prior.png", "--sigma", "51"], "sigma"),
        (["IMAGE", "--priors", "prior.png", "--preset", "best"], "preset"),
        (["IMAGE", "--priors", "prior.png", "--fov", "190"], "degrees"),
        (["IMAGE", "--manifest", "list.jsonl"], "one picture, or --manifest"),
    ],
)
def test_bad_input(folder, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(folder)
    options = ["image.png" if option == "IMAGE" else option for option in options]
    code = main(["relaxflow", *options, "--weights", "family", "-o", str(tmp_path / "out.ply")])
    found = capsys.readouterr().err
    assert code == 2 and said in found and found.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no samples"),
        ("{", "not JSON"),
        ('[{"id": 1}]', "image"),
        ('[{"image": "../image.png"}]', "outside"),
        ('[{"image": "no.png"}]', "there is no image"),
        ('[{"id": "x", "image": "image.png"}, {"id": "x", "image": "image.png"}]', "twice"),
        ('[{"image": "image.png", "prior_images": ["prior.png"], "prior_masks": ["prior.png", "other.png"]}]', "masks"),
    ],
)
def test_a_bad_manifest(folder, text, said):
    file = folder / "bad.json"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_manifest(file)


def test_measures_of_shapes():
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    points = points_on_mesh(vertices, faces, 500, torch.Generator().manual_seed(0))
    assert points[:, 2].abs().max() == 0 and 0.9 < points[:, 0].mean() < 1.1
    same = compare_points(points, points)
    assert same["chamfer"] < 1e-3 and same["f_score"] == 1
    moved = compare_points(points, points + torch.tensor([0, 0, 0.5]))
    assert moved["chamfer"] == pytest.approx(1.0, abs=1e-3) and moved["f_score"] == 0
    assert float((unit_cube(points).amax(0) - unit_cube(points).amin(0)).max()) == pytest.approx(1)
    assert voxel_iou(torch.tensor([[0, 0], [1, 1]]), torch.tensor([[1, 1], [2, 2]])) == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="no surface"):
        points_on_mesh(vertices, faces[:0], 5)
