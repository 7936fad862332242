"""Configuration: what files state, what shapes tell, what is refused."""

import json

import pytest
import torch
from sparsegen_tiny import TINY

from sightline.models.sparsegen import SparseGen, SparseGenConfig
from sightline.models.sparsegen.config import hydra_values, shape_values
from sightline.scene.errors import InputError


def shapes(config):
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in SparseGen(config).state_dict().items()}


@pytest.mark.parametrize(
    "change", [{}, {"head_sets": 1}, {"vit_grid": 4}, {"embed_dims": 24, "num_query": 1, "num_gs_per_query": 5}]
)
def test_shapes_tell_every_size(change):
    config = SparseGenConfig(**TINY | change)
    unseen = {name: getattr(config, name) for name in ("num_heads", "vit_heads", "image_size", "input_size")}
    assert SparseGenConfig.from_state_dict(shapes(config), unseen) == config


def test_defaults_are_the_published_sizes():
    table = shapes(SparseGenConfig())
    assert SparseGenConfig.from_state_dict(table) == SparseGenConfig()
    count = sum(torch.Size(shape).numel() for shape in table.values())
    assert (count, len(table)) == (111_817_416, 666)


def test_stated_options_win_over_shapes():
    config = SparseGenConfig.from_state_dict(shapes(SparseGenConfig(**TINY)), TINY | {"num_query": 7})
    assert config.num_query == 7


def test_dict_round_trip():
    config = SparseGenConfig(**TINY, ray_convention="centered", virtual_views=0, align_first_view=True)
    assert SparseGenConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_hydra_options():
    cfg = {
        "data": {"input_size": [64, 64], "normalize_pose": False},
        "model": {
            "type": "query",
            "embed_dims": 32,
            "num_decoder_layers": 3,
            "return_intermediate": False,
            "querty_init": "uniform",
            "max_scale": 0.2,
            "diffuser": {"steps": 500, "type": "RF"},
        },
        "render": {"fov": 40, "znear": 1, "zfar": 3.5, "aspect_ratio": 1},
    }
    config = SparseGenConfig.from_hydra(cfg, vit_dims=96)
    assert (config.input_size, config.normalize_pose, config.head_sets, config.query_init) == (64, False, 1, "uniform")
    assert (config.fov, config.zfar, config.max_scale, config.train_steps, config.vit_dims) == (40, 3.5, 0.2, 500, 96)


@pytest.mark.parametrize(
    "cfg, named",
    [
        (None, "model"),
        ({"model": []}, "model"),
        ({"model": {"type": "volume"}}, "volume"),
        ({"model": {}, "data": {"input_size": [128, 64]}}, "input_size"),
        ({"model": {"embed_dims": "512; rm"}}, "embed_dims"),
        ({"model": {"num_heads": 7}}, "num_heads"),
        ({"model": {"position_range": [0, 0, 0, 1, 1]}}, "position_range"),
        ({"model": {"position_range": 3}}, "position_range"),
        ({"model": {"max_scale": float("nan")}}, "max_scale"),
        ({"model": {"num_decoder_layers": 10**6}}, "num_decoder_layers"),
        ({"model": {}, "render": {"fov": 190}}, "fov"),
        ({"model": {}, "render": {"znear": 2, "zfar": 1}}, "znear"),
        ({"model": {}, "render": 5}, "render"),
    ],
)
def test_bad_training_configuration(cfg, named):
    with pytest.raises(InputError, match=named):
        SparseGenConfig.from_hydra(cfg)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"ray_convention": "diagonal"}, "ray_convention"),
        ({"patch_size": 9}, "patch_size"),
        ({"vit_heads": 5}, "vit_heads"),
        ({"head_sets": 3}, "head_sets"),
        ({"embed_dims": True}, "embed_dims"),
        ({"query_init": "ones"}, "query_init"),
        ({"virtual_views": -1}, "virtual_views"),
        ({"depth_num": 0}, "depth_num"),
    ],
)
def test_bad_options(change, named):
    with pytest.raises(InputError, match=named):
        SparseGenConfig(**TINY | {"num_decoder_layers": 2} | change)


def test_unknown_option_is_named():
    with pytest.raises(InputError, match="wings"):
        SparseGenConfig.from_dict({"wings": 2})


def test_shapes_of_something_else():
    assert shape_values({"conv1.weight": (64, 3, 7, 7), "gs_decoder.x.y": (1,), "gs_decoder.99999999999.z": (1,)}) == {}
    assert hydra_values({"model": {}}) == {}
