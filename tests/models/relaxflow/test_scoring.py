"""CLIP from a folder (tiny and random), Point-E's evaluator where it is missing, clouds as it wants them."""

import json
import sys
import types

import pytest
import torch

from sightline.models.relaxflow.scoring import Clip, PointNet, unit_sphere
from sightline.scene.errors import InputError, MissingDependency


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="CLIP scores need the transformers library")
    root = tmp_path_factory.mktemp("clip")
    small = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 6, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(root)
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
    (root / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": words[0], "eos_token": words[1], "unk_token": words[1], "pad_token": words[1]}
    (root / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", **special}))
    return root


def test_clip_of_a_folder(folder):
    clip = Clip(folder)
    pictures = torch.rand(3, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    features = clip.pictures(pictures)
    assert features.shape == (3, 8) and not torch.allclose(features[0], features[1])
    assert torch.allclose(clip.pictures(pictures[1:2])[0], features[1], atol=1e-5)
    one, other, long = (clip.words(text) for text in ("a b", "b a", "a b " * 50))
    assert one.shape == (8,) and not torch.allclose(one, other) and torch.isfinite(long).all()


def test_what_is_no_clip(tmp_path):
    with pytest.raises(InputError, match="no config.json"):
        Clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="no CLIP that can be read"):
        Clip(tmp_path)


def test_point_e(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no pointnet.pt"):
        PointNet(tmp_path)
    (tmp_path / "pointnet.pt").write_bytes(b"nothing")
    monkeypatch.setitem(sys.modules, "point_e", None)
    with pytest.raises(MissingDependency, match="point-e"):
        PointNet(tmp_path)

    class Evaluator(torch.nn.Linear):  # stands for the package's network: clouds [N, 3, P] -> features
        def __init__(self, **options):
            assert options == {"num_class": 40, "normal_channel": False, "width_mult": 2}
            super().__init__(3, 256)

        def forward(self, clouds, features):
            return None, None, super().forward(clouds.mean(-1))

    module = types.ModuleType("point_e.evals.pointnet2_cls_ssg")
    module.get_model = Evaluator
    for name in ("point_e", "point_e.evals"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(InputError, match="not Point-E's evaluator"):
        PointNet(tmp_path)
    state = Evaluator(num_class=40, normal_channel=False, width_mult=2).state_dict()
    torch.save({"model_state_dict": state}, tmp_path / "pointnet.pt")
    assert PointNet(tmp_path)(torch.rand(2, 50, 3)).shape == (2, 256)


def test_clouds_reach_one_around_their_mean():
    clouds = unit_sphere(torch.rand(2, 100, 3) * 7 + 4)
    assert clouds.mean(1).abs().max() < 1e-5
    assert torch.allclose(clouds.norm(dim=-1).amax(1), torch.ones(2))
