"""`python -m sightline train sparsegen`: draw, train, evaluate, export, and what it says when it cannot."""

import json
import sys
from pathlib import Path

import yaml

from sightline.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))
try:
    import sparsegen_case as case
finally:
    sys.path.pop(0)


def test_from_drawing_to_weights(tmp_path, capsys):
    from sightline.models.sparsegen import load_sparsegen

    recipe = case.recipe(steps=4, batch_size=2, evaluate_every=2, evaluate_objects=2).to_dict()
    recipe["data"] |= {"objects": 3, "views": 6, "held_out": 2}
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(recipe))), encoding="utf-8")
    common = ["train", "sparsegen", "--config", str(config), "--data", str(tmp_path / "views")]
    run = ["--out", str(tmp_path / "run")]
    assert main([*common, "--prepare"]) == 0
    assert main([*common, *run, "--set", "losses.ssim=0.2"]) == 0
    assert {"state.pth", "log.jsonl", "held_out.png", "curve.png"} <= {p.name for p in (tmp_path / "run").iterdir()}
    capsys.readouterr()
    assert main([*common, *run, "--evaluate"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["set"] for line in lines][0] == "known kinds, 1 view" and lines[0]["objects"] == 2
    assert abs(lines[0]["gain"] - (lines[0]["psnr_novel"] - lines[0]["psnr_mean_image"])) < 1e-6
    target = tmp_path / "out.safetensors"
    assert main([*common, *run, "--export", str(target)]) == 0
    assert load_sparsegen(target)[1].iteration == 4
    assert main([*common, *run, "--export", str(target)]) == 2


def test_one_sentence_for_what_is_missing(tmp_path, capsys):
    for arguments, word in (
        (["--data", str(tmp_path)], "--out"),
        (["--out", str(tmp_path)], "data.folder"),
        (["--out", str(tmp_path), "--export", str(tmp_path / "w.safetensors")], "state.pth"),
        (["--prepare"], "--data"),
        (["--data", str(tmp_path), "--prepare", "--part", "2/2"], "--part"),
        (["--data", str(tmp_path), "--out", str(tmp_path), "--config", "huge"], "spgen, tiny"),
        (
            ["--data", str(tmp_path), "--out", str(tmp_path), "--config", "spgen", "--set", "model.embed_dims=8"],
            "num_heads|VGG|srn_",
        ),
    ):
        assert main(["train", "sparsegen", *arguments]) == 2
        said = capsys.readouterr().err.strip()
        assert any(part in said for part in word.split("|")) and "\n" not in said, said
    assert [p.name for p in tmp_path.iterdir()] == []
