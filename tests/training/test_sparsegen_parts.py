"""Recipes, losses, view dropout, moving average, SRN files and evaluation: what the parity fixtures do not say."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.models.sparsegen import SparseGen, SparseGenConfig, initialize
from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError
from sightline.training.sparsegen import srn
from sightline.training.sparsegen.draws import choose, draw_times
from sightline.training.sparsegen.ema import Ema
from sightline.training.sparsegen.evaluate import elevation_bin, evaluate, mean_images, sheet
from sightline.training.sparsegen.losses import LossOptions, VggPerceptualLoss, sparsegen_losses, total_loss
from sightline.training.sparsegen.recipe import read_recipe, recipe_from_dict
from sightline.training.sparsegen.sources import open_source
from sightline.training.sparsegen.step import StepDraws, StepOptions, TrainingViews, add_noise, training_step
from sightline.training.sparsegen.view_dropout import drop_views

sys.path.insert(0, str(Path(__file__).parent))
try:
    import sparsegen_case as case
finally:
    sys.path.pop(0)


def test_spgen_is_the_published_recipe():
    recipe = read_recipe("spgen")
    assert recipe.model == SparseGenConfig()
    assert (recipe.steps, recipe.batch_size, recipe.save_every) == (300001, 16, 10000)
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.optimizer.schedule) == (2e-5, (0.9, 0.99), "constant")
    assert recipe.losses == LossOptions() and recipe.optimizer.clip == 0
    assert (recipe.ema.decay, recipe.ema.update_every, recipe.ema.start) == (0.995, 10, 100)
    assert (recipe.views.drop_all_clean, recipe.views.noisy_dropout, recipe.views.penalize) == (
        0.2,
        0.5,
        "seen_and_one_more",
    )


def test_tiny_recipe_fits_the_embedded_file():
    recipe = read_recipe("tiny", ["optimizer.lr=2e-4", "views.render_sizes={0: 16}"])
    assert recipe.optimizer.lr == 2e-4 and recipe.views.render_sizes == {0: 16}
    assert recipe.model.align_first_view and recipe.model.ray_convention == "centered"
    assert 2 * sum(p.numel() for p in SparseGen(recipe.model).parameters()) < 8_000_000


@pytest.mark.parametrize(
    "change, word",
    [
        ({"optimizer": {"speed": 1}}, "speed"),
        ({"colour": 1}, "colour"),
        ({"data": 3}, "data"),
        ({"name": None}, "name"),
        ({"losses": {"kind": "l3"}}, "l3"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr"),
        ({"model": {"embed_dims": 10}}, "embed_dims"),
    ],
)
def test_unusable_recipes_are_named(change, word):
    with pytest.raises(InputError, match=word):
        recipe_from_dict({"name": "x"} | change)


def test_missing_recipe_and_data_are_named(tmp_path):
    with pytest.raises(InputError, match="spgen, tiny"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="section.option=value"):
        read_recipe("tiny", ["lr"])
    with pytest.raises(InputError, match="data.folder"):
        open_source(read_recipe("tiny"))
    with pytest.raises(InputError, match="cubes"):
        open_source(read_recipe("tiny", ["data.source=cubes", f"data.folder={tmp_path}"]))


def test_vgg_absent_is_said_clearly(tmp_path):
    for path in (None, tmp_path / "vgg.mat"):
        with pytest.raises(InputError, match="imagenet-vgg-verydeep-19.mat"):
            VggPerceptualLoss.from_file(path)
    with pytest.raises(InputError, match="features.0.weight"):
        VggPerceptualLoss({})
    x = torch.zeros(1, 1, 3, 16, 16)
    with pytest.raises(InputError, match="perceptual"):
        sparsegen_losses(x, x, None, None, None, LossOptions())


def narrow_vgg():
    widths, weights, before = iter([2] * 2 + [3] * 2 + [4] * 4 + [5] * 8), {}, 3
    generator = torch.Generator().manual_seed(0)
    for position in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34):
        width = next(widths)
        weights[f"features.{position}.weight"] = torch.randn(width, before, 3, 3, generator=generator) * 0.2
        weights[f"features.{position}.bias"] = torch.randn(width, generator=generator)
        before = width
    return weights


def test_vgg_files_agree(tmp_path):
    from safetensors.torch import save_file

    weights = narrow_vgg()
    save_file(weights, tmp_path / "vgg.safetensors")
    torch.save(weights, tmp_path / "vgg.pth")
    # MatConvNet keeps kernels as [height, width, in, out] in nested records.
    scipy_io = pytest.importorskip("scipy.io")
    layers = np.empty((1, 37), object)
    for k in range(37):
        record = np.zeros((1, 1), dtype=[("name", object), ("type", object), ("weights", object)])
        cell = np.empty((1, 2), object)
        cell[0, 0] = cell[0, 1] = np.zeros((0, 0))
        if f"features.{k}.weight" in weights:
            cell[0, 0] = weights[f"features.{k}.weight"].permute(2, 3, 1, 0).numpy()
            cell[0, 1] = weights[f"features.{k}.bias"].numpy()[:, None]
        record["name"][0, 0] = record["type"][0, 0] = f"layer{k}"
        record["weights"][0, 0] = cell
        layers[0, k] = record
    scipy_io.savemat(tmp_path / "vgg.mat", {"layers": layers})
    x, y = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    values = [float(VggPerceptualLoss.from_file(tmp_path / f"vgg.{s}")(x, y)) for s in ("safetensors", "pth", "mat")]
    assert values[0] > 0 and values == pytest.approx([values[0]] * 3)


def test_loss_terms_that_are_nan_are_left_out():
    x = torch.rand(1, 2, 3, 16, 16) * 2 - 1
    alpha = torch.full((1, 2, 1, 16, 16), float("nan"))
    terms = sparsegen_losses(x, -x, alpha, alpha, torch.ones(1, 2, 3), LossOptions(perceptual=0))
    assert torch.isnan(terms["occupancy"]) and float(terms["perceptual"]) == 0
    assert float(total_loss(terms)) == pytest.approx(float((4 * x * x).mean()) + 0.05 * 0.81)
    alone = sparsegen_losses(x, x, None, None, None, LossOptions(perceptual=0, ssim_alone=True))
    assert float(alone["perceptual"]) == pytest.approx(0.0, abs=1e-6) and float(alone["occupancy"]) == 0
    assert float(
        sparsegen_losses(x, x + 1, None, None, None, LossOptions(kind="l1", perceptual=0))["color"]
    ) == pytest.approx(1.0)


def test_view_dropout_limits():
    assert drop_views(2, 2, 0.999999, 1) == ([0, 1, 3], [0, 1, 3, 3])
    assert drop_views(2, 2, 0.1, 0) == ([2, 3], [2, 3, 0])
    assert drop_views(3, 0, 0.0, 0, drop_all_clean=-1.0, noisy_dropout=0.0, penalize="all")[1] == [0, 1, 2]
    assert drop_views(1, 2, 0.5, 0, noisy_dropout=0.0, penalize="all") == ([0, 1, 2], [0, 1, 2])
    with pytest.raises(InputError, match="dropped"):
        drop_views(1, 2, 0.1, 0, noisy_dropout=1.0)
    with pytest.raises(InputError, match="none"):
        drop_views(1, 2, 0.1, 0, penalize="none")
    with pytest.raises(InputError, match="0.3"):
        drop_views(1, 2, 0.1, 0, noisy_dropout=0.3)


def test_short_run_average_follows_from_the_start():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = Ema(model, decay=0.9, update_every=1, short_run=True)
    with torch.no_grad():
        model.weight.fill_(1.0)
    values = [ema.update(model) or float(ema.model.weight) for _ in range(60)]
    assert values[0] == 1.0 and values[-1] == 1.0
    with torch.no_grad():
        model.weight.fill_(2.0)
    ema.update(model)
    # The 61st update averages with decay min(0.9, (1 + 61) / (10 + 61)).
    assert float(ema.model.weight) == pytest.approx(2 - 62 / 71, abs=1e-5)


def test_noise_times_follow_the_recipe():
    recipe = case.recipe(noise={"pure": 0.5})
    times = torch.cat([draw_times(recipe, step, 0, 64) for step in range(20)])
    assert int(times.min()) >= 1 and int(times.max()) == 1000
    assert 0.4 < float((times == 1000).float().mean()) < 0.6
    x, noise = torch.zeros(2, 1, 3, 4, 4), torch.ones(2, 1, 3, 4, 4)
    assert torch.equal(add_noise(x, noise, torch.tensor([1000, 0]))[:, 0, 0, 0, 0], torch.tensor([1.0, 0.0]))
    draws = [choose({1: 0.0, 4: 2.0}, np.random.default_rng(k)) for k in range(5)]
    assert draws == [4] * 5


def test_self_conditioning_sees_the_kept_views_only():
    recipe = case.recipe(model={"dropout": 0.0})
    model = initialize(SparseGen(recipe.model), "short_run", seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 3, 16, 16, generator=generator) * 2 - 1
    cameras = orbit([0.0, 90.0, 180.0], [20.0] * 3, 1.3, 52.0, 16, 16).world_to_camera[None]
    views = TrainingViews(images, None, cameras, clean=1, noisy=1)
    draws = StepDraws.draw(views, generator)
    draws.clean_uniform, draws.self_uniform = 0.9, 0.1
    t = torch.tensor([1000])
    options = StepOptions(noisy_dropout=0.0, penalize="all")
    with torch.no_grad():
        seen = training_step(model, views, t, draws, options, LossOptions(perceptual=0))
        draws.self_uniform = 0.9
        plain = training_step(model, views, t, draws, options, LossOptions(perceptual=0))
    assert float(seen.x_self.abs().max()) > 0 and float(plain.x_self.abs().max()) == 0
    assert seen.keep == [0, 1] and seen.render == [0, 1, 2]
    assert seen.x_self.shape == (1, 1, 3, 16, 16)


def views_on_disk(folder, count=4, size=16):
    generator = torch.Generator().manual_seed(2)
    rgb = torch.randint(0, 255, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    masks = (torch.rand(count, size, size, generator=generator) > 0.5).to(torch.uint8) * 255
    elevation = [20.0] * (count - 1) + [-30.0]
    cameras = orbit([10.0 + 50 * k for k in range(count)], elevation, 1.3, 51.98948897809546, size, size)
    return rgb, masks, cameras, srn.write_object(folder, rgb, cameras, masks)


def test_srn_files_come_back_as_written(tmp_path):
    rgb, masks, cameras, folder = views_on_disk(tmp_path / "srn_cars" / "cars_train" / "a")
    assert srn.object_folders(tmp_path, "cars", "train") == [folder]
    item = srn.read_object(folder)
    assert torch.equal(item.rgb, rgb) and torch.equal(item.occupancy, masks)
    assert torch.allclose(item.cameras.world_to_camera, cameras.world_to_camera, atol=1e-6)
    assert torch.allclose(item.cameras.intrinsics, cameras.intrinsics, atol=1e-4)
    assert item.above_ground() == [0, 1, 2]
    assert torch.equal(srn.read_object(folder, [2, 0]).rgb, rgb[[2, 0]])
    with pytest.raises(InputError, match="exists"):
        srn.write_object(folder, rgb, cameras, masks)


def test_srn_source_draws_views_above_the_ground(tmp_path):
    for name in ("a", "b"):
        views_on_disk(tmp_path / "srn_cars" / "cars_train" / name)
    recipe = case.recipe(
        data={"source": "srn", "folder": str(tmp_path), "views": 3, "clean": {2: 1.0}, "noisy": {1: 1.0}},
        model={"input_size": 16},
    )
    source = open_source(recipe)
    views, again = source.batch(4, 1), source.batch(4, 1)
    assert views.images.shape == (2, 3, 3, 16, 16) and (views.clean, views.noisy) == (2, 1)
    assert torch.equal(views.images, again.images)
    heights = torch.linalg.inv(views.world_to_camera)[:, :, 2, 3]
    assert float(heights.min()) > 0


def test_srn_trouble_is_named(tmp_path):
    _, _, _, folder = views_on_disk(tmp_path / "srn_cars" / "cars_train" / "a")
    with pytest.raises(InputError, match="intrinsics.txt"):
        srn.object_folders(tmp_path, "chairs", "train")
    with pytest.raises(InputError, match="holiday"):
        srn.object_folders(tmp_path, "cars", "holiday")
    (folder / "pose" / "000000.txt").unlink()
    with pytest.raises(InputError, match="pose"):
        srn.read_object(folder)
    (folder / "intrinsics.txt").write_text("131 64 64 0\n128 100\n")
    with pytest.raises(InputError, match="square"):
        srn.read_object(folder)
    (folder / "intrinsics.txt").write_text("none\n")
    with pytest.raises(InputError, match="unreadable"):
        srn.read_object(folder)


def test_published_evaluation_frames():
    assert srn.evaluation_frames(1, 3) == ([64], [90, 104, 120])
    assert srn.evaluation_frames(2, 0) == ([64, 104], [])
    assert srn.evaluation_frames(4, 6)[0] == [80, 104, 198, 64]
    with pytest.raises(InputError, match="virtual"):
        srn.evaluation_frames(1, 1)
    with pytest.raises(InputError, match="clean"):
        srn.evaluation_frames(7, 2)


def test_the_mean_image_is_the_baseline():
    shard = case.shard(objects=4, views=6)
    means = mean_images(shard)
    white = shard.rgba[..., :3] / 255 * (shard.rgba[..., 3:] / 255) + 1 - shard.rgba[..., 3:] / 255
    place = elevation_bin(shard.elevation.reshape(-1)).numpy()
    for k in set(place.tolist()):
        expected = white.reshape(-1, 16, 16, 3)[place == k].mean(0).transpose(2, 0, 1)
        assert np.allclose(means[k], expected, atol=1e-5)
    model = initialize(SparseGen(case.recipe().model), "short_run", seed=0)
    report, pictures = evaluate(model, shard, means, novel=2)
    assert report.objects == 4 and list(report.per_kind) == ["square"] and pictures.shape == (4, 6, 3, 16, 16)
    assert report.gain == pytest.approx(report.psnr_novel - report.psnr_mean_image)
    squared = [
        ((white[k, v].transpose(2, 0, 1) - means[elevation_bin(shard.elevation[k])[v]].numpy()) ** 2).mean()
        for k in range(4)
        for v in (1, 2)
    ]
    assert report.psnr_mean_image == pytest.approx(float(np.mean(-10 * np.log10(squared))), abs=1e-3)
    assert sheet(pictures, 3).shape == (2 * 32, 3 * 48, 3)
    assert model.training
