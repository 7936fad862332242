"""The seethrough3d command: control picture and masks on any machine; what it cannot use; the whole way when tiny."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.scene.errors import InputError


def test_control_picture_and_masks_of_an_example(run, tmp_path, monkeypatch):
    from sightline.pipelines import layout_render

    whole = layout_render.render_layout
    monkeypatch.setattr(layout_render, "render_layout", lambda document, **o: whole(document, 128, samples=1, **o))
    code, out, err = run(
        "seethrough3d", "desk", "--control", tmp_path / "c.png", "--masks", tmp_path / "m.png", "--json",
        tmp_path / "r.json",
    )  # fmt: skip
    assert (code, err) == (0, "") and "a photo of monitor and printer" in out
    report = json.loads((tmp_path / "r.json").read_text())
    control, masks = (np.asarray(Image.open(tmp_path / name)) for name in ("c.png", "m.png"))
    assert control.shape == (128, 128, 3) and control.std() > 1
    assert masks.shape == (128 * len(report["objects"]), 128) and set(np.unique(masks)) == {0, 255}
    assert report["size"] == [1024, 1024] and report["prompt"].endswith("on a modern work desk.")
    assert run("seethrough3d", "desk", "--control", tmp_path / "c.png")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["desk"], "Nothing is asked for"),
        (["desk", "-o", "a.png"], "--flux"),
        (["desk", "-o", "a.jpg", "--flux", "x", "--lora", "y"], "does not end in .png"),
        (["desk", "--control", "a.png", "--flux", "x"], "-o is not"),
        (["desk", "--control", "a.png", "--size", "big"], "1024x768"),
        (["desk", "--control", "a.png", "--size", "1000x1000"], "multiples of 16"),
        (["nowhere.json", "--control", "a.png"], "nowhere.json"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("seethrough3d", *arguments)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_flux(tmp_path):
    from sightline.pipelines.seethrough3d import load_flux

    with pytest.raises(InputError, match="model_index.json"):
        load_flux(tmp_path)


class Tokenizer:
    """One token a word, padded as asked; what transformers' tokenizers are called with."""

    def __call__(self, text, add_special_tokens=True, max_length=None, **options):
        ids = [2 + len(word) for word in text.split()]
        if not add_special_tokens:
            return {"input_ids": ids}
        from types import SimpleNamespace

        return SimpleNamespace(input_ids=torch.tensor([(ids + [1] + [0] * max_length)[:max_length]]))


def test_the_whole_way_with_tiny_parts():
    diffusers = pytest.importorskip("diffusers", reason="the diffusers path needs diffusers (pip install diffusers)")
    from types import SimpleNamespace

    from sightline.models.seethrough3d.lora import ConditionLora, LoraShape, adapters
    from sightline.models.seethrough3d.prompt import plain_parts
    from sightline.pipelines.seethrough3d import FluxParts, layout_to_picture

    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=12, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=2,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159,
    )  # fmt: skip
    t5, table = torch.nn.Embedding(32, 24), torch.nn.Embedding(32, 12)

    class Clip(torch.nn.Module):
        def forward(self, ids):
            return SimpleNamespace(pooler_output=table(ids).mean(1))

    flux = FluxParts(transformer.eval(), vae.eval(), SimpleNamespace(__call__=None), Tokenizer(), Clip(), Tokenizer())
    flux.t5 = lambda ids: (t5(ids),)
    lora = ConditionLora(LoraShape(1, 1, 32, (2,))).requires_grad_(False)
    for value in lora.parameters():
        value.normal_()
    masks = torch.zeros(2, 64, 64)
    masks[0, :32], masks[1, 20:] = 1, 1
    parts, seen = plain_parts(["red car", "dog"], "in a park"), []

    control = torch.rand(1, 3, 64, 64)

    def draw(lora, **options):
        return layout_to_picture(
            flux, adapters(lora, 1.0), parts, control, masks,
            width=64, height=32, steps=2, callback=lambda *state: seen.append(state[:2]), **options,
        )  # fmt: skip

    first = draw(lora)
    assert first.shape == (1, 3, 32, 64) and bool(first.isfinite().all()) and seen == [(1, 2), (2, 2)]
    assert torch.equal(draw(lora), first) and not torch.equal(draw(lora, seed=1), first)
    assert not torch.equal(draw(lora, as_released=True), first)
    with pytest.raises(InputError, match="there are 2 descriptions"):
        layout_to_picture(flux, [], parts, torch.rand(1, 3, 8, 8), masks[:1])
