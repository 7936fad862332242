"""`pipeline.json`: where models are looked for, what is read, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file
from trellis2_tiny import FLOW, LATENT, cascade, network, slat_flow

from sightline.models.trellis2.cascade import CascadeConfig, Normalization, find_model, load_cascade
from sightline.scene.errors import InputError

NORMALIZATION = {"mean": [0.0] * LATENT, "std": [1.0] * LATENT}
ARGS = {"shape_slat_normalization": NORMALIZATION, "tex_slat_normalization": NORMALIZATION}


def write(stem, name, model, args):
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_name(stem.name + ".json").write_text(json.dumps({"name": name, "args": args}))
    save_file(model.state_dict(), stem.with_name(stem.name + ".safetensors"))


@pytest.fixture
def folder(tmp_path):
    args = {**FLOW, "resolution": 8, "in_channels": LATENT, "out_channels": LATENT}
    write(tmp_path / "family/ckpts/flow", "ElasticSLatFlowModel", slat_flow(), args)
    vae = dict(latent_channels=2, num_res_blocks=1, channels=[8, 8])
    write(
        tmp_path / "models/owner/other/ckpts/dec",
        "SparseStructureDecoder",
        network("SparseStructureDecoder", **vae),
        vae,
    )
    models = {
        "shape_slat_flow_model_512": "ckpts/flow",
        "shape_slat_flow_model_1024": "ckpts/flow",
        "sparse_structure_decoder": "owner/other/ckpts/dec",
    }
    (tmp_path / "family/pipeline.json").write_text(json.dumps({"name": "Trellis2", "args": {**ARGS, "models": models}}))
    return tmp_path


def test_models_are_found_loaded_late_and_shared(folder):
    family = load_cascade(folder / "family", search=[folder / "models"])
    assert not any(isinstance(model, torch.nn.Module) for model in family.models.values())
    low = family.get("shape_slat_flow_model_512")
    assert low is family.get("shape_slat_flow_model_1024")
    assert type(family.get("sparse_structure_decoder")).__name__ == "SparseStructureDecoder"
    assert "tex_slat_decoder" not in family
    with pytest.raises(InputError, match="has no `tex_slat_decoder`"):
        family.get("tex_slat_decoder")
    with pytest.raises(InputError, match="image encoder"):
        family.encoder()


def test_a_repository_folder_may_stand_without_its_owner(folder):
    (folder / "models/owner/other").rename(folder / "models/other")
    assert load_cascade(folder / "family", search=[folder / "models"]).get("sparse_structure_decoder") is not None


def test_models_that_are_not_there_are_named(folder):
    with pytest.raises(InputError, match="'owner/other/ckpts/dec' was not found; looked for .*family"):
        load_cascade(folder / "family")


@pytest.mark.parametrize("value", ["../x", "/etc/x", "a/../../x", ""])
def test_model_paths_stay_inside(tmp_path, value):
    with pytest.raises(InputError, match="does not stay inside"):
        find_model(value, tmp_path)


def test_configuration_follows_the_file():
    sampler = {
        "name": "x",
        "args": {"sigma_min": 1e-4},
        "params": {"steps": 5, "guidance_strength": 2.0, "rescale_t": 3.0},
    }
    config = CascadeConfig.from_args(
        {
            **ARGS,
            "tex_slat_sampler": sampler,
            "lr_resolution": 64,
            "default_pipeline_type": "512",
            "image_stages": {"ss": [128, 8, None]},
        }
    )
    assert config.samplers["tex_slat_sampler"].steps == 5 and config.samplers["tex_slat_sampler"].sigma_min == 1e-4
    assert config.samplers["shape_slat_sampler"].guidance_rescale == 0.5
    assert config.plan(None) == (64, False) and config.plan("1536_cascade") == (192, True)
    assert config.stage("ss").image_size == 128
    with pytest.raises(InputError, match="no image stage 'tex_1024'"):
        config.stage("tex_1024")
    with pytest.raises(InputError, match="'2048' is unknown"):
        config.plan("2048")


def test_published_defaults():
    config = CascadeConfig.from_args(ARGS)
    assert config.plan(None) == (1024, True) and config.max_num_tokens == 49152
    assert [config.samplers[name].guidance_strength for name in config.samplers] == [7.5, 7.5, 1.0]


def test_files_that_are_no_pipeline(tmp_path):
    with pytest.raises(InputError, match="There is no"):
        load_cascade(tmp_path)
    (tmp_path / "pipeline.json").write_text("[]")
    with pytest.raises(InputError, match="not a pipeline configuration"):
        load_cascade(tmp_path)
    with pytest.raises(InputError, match="no usable latent normalization"):
        CascadeConfig.from_args({})


def test_normalizations_that_do_not_fit():
    with pytest.raises(InputError, match="as many positive"):
        Normalization((0.0,), (1.0, 2.0))
    with pytest.raises(InputError, match="as many positive"):
        Normalization((0.0,), (0.0,))
    with pytest.raises(InputError, match="4 channels; its normalization is for 3"):
        Normalization((0.0,) * 3, (1.0,) * 3).normalize(torch.zeros(2, 4))


def test_sampler_options_are_replaced_one_by_one():
    family = cascade(False)
    settings = family.settings({"tex_slat_sampler": {"steps": 3}})
    assert settings["tex_slat_sampler"].steps == 3 and settings["tex_slat_sampler"].guidance_interval == (0.6, 0.9)
    with pytest.raises(InputError, match="no sampler ss"):
        family.settings({"ss": {}})
    with pytest.raises(InputError, match="no option cfg"):
        family.settings({"tex_slat_sampler": {"cfg": 3}})


class Recorder(torch.nn.Linear):
    """Remembers where it was sent."""

    def to(self, device):
        self.path = [*getattr(self, "path", []), str(device)]
        return self


@pytest.mark.parametrize("low_vram, path", [(False, ["meta"]), (True, ["meta", "cpu"])])
def test_networks_visit_the_device(low_vram, path):
    family = cascade(False)
    family.device, family.low_vram = torch.device("meta"), low_vram
    model = family.models["x"] = Recorder(1, 1)
    with pytest.raises(RuntimeError):
        with family.on_device("x") as lent:
            assert lent is model
            raise RuntimeError
    assert model.path == path
    with family.on_device(None) as nothing:
        assert nothing is None
