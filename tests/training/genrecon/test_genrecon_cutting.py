"""Own rooms cut into chunks in the published layout, read again, and adapters trained on them."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.models.trellis2.cascade import CascadeConfig, Normalization
from sightline.models.trellis2.family import embedded_family
from sightline.scene.errors import InputError
from sightline.scene.frames import turn_points
from sightline.scene.gltf import Part, encode_glb
from sightline.training.genrecon.adapter_config import CONFIGS, read_adapter_recipe
from sightline.training.genrecon.adapter_run import AdapterRun
from sightline.training.genrecon.chunk_data import ChunkFolders, seen_area, square_crop
from sightline.training.genrecon.cutting import CutOptions, clip_triangles, cut_rooms, draw_crops
from sightline.training.genrecon.recipe import AdapterOptions, AdapterTrainer, adapter_model
from sightline.training.genrecon.truth import true_surface
from sightline.training.procedural_room import make_plain_room


def area(corners):
    return torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2


def test_clipped_triangles_are_what_of_them_lies_in_the_cube():
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 3, 3, generator=draw, dtype=torch.float64) * 3 - 1.5
    source, weights = clip_triangles(corners)
    pieces = weights @ corners[source]
    assert float(pieces.abs().max()) <= 0.5 + 1e-9
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2], dtype=torch.float64))
    kept = torch.zeros(200, dtype=torch.float64).index_add(0, source, area(pieces))
    fine = torch.rand(200, 20000, 2, generator=draw, dtype=torch.float64)
    fold = fine.sum(-1, keepdim=True) > 1
    fine = torch.where(fold, 1 - fine, fine)
    points = corners[:, :1] + fine @ torch.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 1)
    share = (points.abs() <= 0.5).all(-1).double().mean(1)
    assert float((kept / area(corners) - share).abs().max()) < 0.02


def test_crops_stand_on_the_floor_and_turn_back():
    low, high = np.zeros(3), np.array([5.0, 4.0, 2.6])
    for crop in draw_crops(low, high, CutOptions(chunks=20), np.random.default_rng(0)):
        assert 2.7 <= crop.size <= 3.0
        assert crop.center[2] - crop.size / 2 == pytest.approx(-0.4 * crop.size / 64)
        values = crop.to_json()
        product = np.array(values["M_chunk_to_original"]) @ np.array(values["M_original_to_chunk"])
        np.testing.assert_allclose(product, np.eye(4), atol=1e-12)


def write_rooms(folder, views=3):
    """A small room as a user would have it: a colored GLB, pictures, transforms.json."""
    from sightline.training.procedural_room.capture import render_room, room_cameras

    room = make_plain_room(1)
    vertices, faces, colors = true_surface(room)
    faces = faces[::4]  # as good for a test, and quicker
    (folder / "kitchen").mkdir(parents=True)
    part = Part(turn_points(vertices, "z_up", "y_up"), faces.long(), colors=colors)
    (folder / "kitchen.glb").write_bytes(encode_glb([part]))
    cameras = room_cameras(room, views, 48, 48, fov=60)
    pictures, _ = render_room(room, cameras)
    frames = []
    for i, picture in enumerate(pictures):
        pixels = (picture.permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)).save(
            folder / "kitchen" / f"{i}.png"
        )
        pose = cameras.camera_to_world[i].double().numpy() @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"{i}.png", "transform_matrix": pose.tolist()})
    document = {"camera_angle_x": math.radians(60), "frames": frames}
    (folder / "kitchen" / "transforms.json").write_text(json.dumps(document))
    (folder / "broken.glb").write_bytes(b"glTF")
    (folder / "broken").mkdir()
    (folder / "broken" / "transforms.json").write_text("{}")
    return cameras


class Patches(torch.nn.Module):
    """Stands for DINOv3: the mean color of every patch, and five tokens before."""

    prefix_tokens = 5

    def forward(self, images):
        rows = torch.nn.functional.avg_pool2d(images, 16).flatten(2).transpose(1, 2)
        return torch.nn.functional.pad(rows, (0, 5, 5, 0))


@pytest.fixture(scope="module")
def chunks(tmp_path_factory):
    rooms, out, said = tmp_path_factory.mktemp("rooms"), tmp_path_factory.mktemp("chunks"), []
    write_rooms(rooms)
    family = embedded_family()
    count = cut_rooms(rooms, out, family=family, options=CutOptions(chunks=2), tell=said.append)
    assert count == 2 and len(said) == 1 and said[0].startswith("broken.glb skipped")
    return out, family


def test_chunks_are_written_in_the_published_layout(chunks):
    out, family = chunks
    document = json.loads((out / "crops" / "kitchen.json").read_text())
    assert set(document["chunks"]) == {"0", "1"}
    for index in document["chunks"]:
        shape = np.load(out / "shape_latents" / f"kitchen_{index}.npz")
        texture = np.load(out / "pbr_latents" / f"kitchen_{index}.npz")
        assert shape["coords"].dtype == np.uint8 and np.array_equal(shape["coords"], texture["coords"])
        assert len(shape["coords"]) > 100 and shape["coords"].max() < 16
        assert np.load(out / "ss_latents" / f"kitchen_{index}.npz")["z"].shape == (16, 8, 8, 8)
        assert (out / "chunks" / f"kitchen_{index}.glb").stat().st_size > 1000
    assert (out / "metadata.csv").read_text().count("kitchen") == 4
    assert (out / "renders_room" / "kitchen" / "2.png").is_file()


def test_views_are_cropped_with_their_lenses(chunks):
    out, family = chunks
    data = ChunkFolders(out, "shape", family.config)
    data.factor = 4
    encoder = Patches()
    encoder.config = type("Config", (), {"image_size": 32})
    chunk = data.draw(0, encoder, np.random.default_rng(0))
    assert chunk.resolution == 16 and chunk.x0.shape[0] == len(chunk.coords) and 1 <= len(chunk.tokens) <= 3
    torch.testing.assert_close(chunk.intrinsics[0, 0, 0], torch.tensor(0.5 / math.tan(math.radians(30))))
    picture = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (10, 5, 20, 15))
    square, place = square_crop(picture, 16)
    assert place == (10, 5, 10) and float(square[0].min()) == 1 and float(square[1].max()) == 0
    pose = np.eye(4)
    pose[2, 3] = 1.0
    assert seen_area(pose, 0.5, 1.0) == pytest.approx(1.0)  # the near side fills the picture
    pose[2, 3] = -1.0
    assert seen_area(pose, 0.5, 1.0) == 0


def test_adapters_train_and_continue_exactly(chunks, tmp_path):
    out, _ = chunks
    plain = Normalization((0.0,) * 16, (1.0,) * 16)
    config = CascadeConfig(plain, plain, lr_resolution=64)
    args = dict(
        resolution=16, in_channels=16, out_channels=16, model_channels=32, cond_channels=8, num_blocks=1, num_heads=2,
        pe_mode="rope", share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True, dense=False,
    )  # fmt: skip
    recipe = read_adapter_recipe("genrecon-shape", ["steps=8", "batch_size=1", "min_tokens=1"])
    options = AdapterOptions(lr_lora=3e-3, lr_new=1e-2, warmup=1, ema=0.5)

    def begin(name):
        from sightline.models.genrecon.checkpoint import build_flow, is_trained

        draw = torch.Generator().manual_seed(3)
        shapes = build_flow(args).state_dict()
        base = {k: torch.randn(v.shape, generator=draw) * 0.1 for k, v in shapes.items() if not is_trained(k)}
        torch.manual_seed(0)
        trainer = AdapterTrainer(adapter_model(base, args, recipe.lora), "shape", options)
        data = ChunkFolders(out, "shape", config)
        data.factor = 4
        encoder = Patches()
        encoder.config = type("Config", (), {"image_size": 32})
        return AdapterRun(trainer, data, encoder, recipe, tmp_path / name)

    once = begin("once")
    losses = [once.advance() for _ in range(6)]
    assert all(math.isfinite(loss) for loss in losses)
    first = begin("twice")
    for _ in range(3):
        first.advance()
    first.save()
    again = begin("twice")
    for _ in range(3):
        again.advance()
    for name, value in once.trainer.adapter().items():
        assert torch.equal(value, again.trainer.adapter()[name]), name


def test_recipes(tmp_path):
    for path in CONFIGS.glob("*.yaml"):
        recipe = read_adapter_recipe(path.stem)
        assert recipe.lora.r == 8 and recipe.options.warmup == 2000 and recipe.batch_size == 8
    assert read_adapter_recipe("genrecon-texture").options.weight_decay == 0.1
    assert read_adapter_recipe("genrecon-shape").steps == 1_000_000
    with pytest.raises(InputError, match="no option lr_lorra"):
        read_adapter_recipe("genrecon-shape", ["lr_lorra=1"])
    with pytest.raises(InputError, match="no recipe"):
        read_adapter_recipe("genrecon-nothing")
    with pytest.raises(InputError, match="no room"):
        cut_rooms(tmp_path, tmp_path / "out", family=embedded_family())
