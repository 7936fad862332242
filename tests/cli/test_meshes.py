"""The commands `pixal3d` and `trellis2` with tiny random networks, written to disk as the published ones are."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from trellis2_files import write_tiny_family
from trellis2_tiny import picture

from sightline.kernels.projection import front_camera
from sightline.scene.frames import cameras_to_opengl
from sightline.scene.posed_views import four_view_rig

pytest.importorskip("transformers", reason="DINOv3 comes from the transformers library, which is not installed")
trimesh = pytest.importorskip("trimesh", reason="meshes are written with trimesh, which is not installed")
FAST = ("--type", "512", "--seed", "3")


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: write_tiny_family(root / name, name == "pixal3d") for name in ("pixal3d", "trellis2")}


@pytest.fixture(autouse=True)
def no_downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_WEIGHTS", str(tmp_path / "nothing"))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture()).save(path)
    return path


@pytest.fixture
def command(run, families):
    def call(name, *arguments, weights=True):
        return run(name, *arguments, *(("--weights", families[name]) if weights else ()))

    return call


def sentence(answer, *says):
    code, out, err = answer
    assert (code, out) == (2, ""), err
    last = err.splitlines()[-1]
    assert all(line.startswith("note: ") for line in err.splitlines()[:-1]) and "Traceback" not in err
    assert last.endswith(".")
    for text in says:
        assert text in last
    return last


def mesh(path):
    return trimesh.load(path, force="mesh", process=False)


@pytest.mark.parametrize("name", ["pixal3d", "trellis2"])
@pytest.mark.parametrize("suffix", ["glb", "ply"])
def test_a_picture_becomes_a_mesh(command, photo, tmp_path, name, suffix):
    options = ("--fov", "35") if name == "pixal3d" else ()
    output = tmp_path / f"a.{suffix}"
    code, out, err = command(name, photo, "-o", output, *options, *FAST)
    assert (code, err) == (0, "")
    found = mesh(output)
    assert f"{len(found.faces)} faces" in out and "voxels of 32^3" in out
    assert len(found.faces) > 10 and np.abs(found.vertices).max() <= 0.5 + 0.5 / 32
    assert sorted(p.name for p in tmp_path.iterdir()) == [output.name, "photo.png"]


def test_the_file_holds_what_the_pipeline_makes(command, families, photo, tmp_path):
    from sightline.models.trellis2.family import load_family
    from sightline.models.trellis2.image_condition import FrontCamera
    from sightline.pipelines.pixal3d import image_to_3d

    samplers = {"shape_slat_sampler": {"steps": 3, "guidance_interval": (0.2, 0.9)}}
    cascade = load_family(families["pixal3d"], "pixal3d", projected=True)
    expected = image_to_3d(cascade, picture(), FrontCamera(math.radians(35)), seed=3, pipeline_type="1024_cascade",
                           samplers=samplers)  # fmt: skip
    code, _, _ = command("pixal3d", photo, "-o", tmp_path / "a.ply", "--fov", 35, "--seed", 3,
                         "--shape", "steps=3,interval=0.2:0.9", "--type", "1024_cascade")  # fmt: skip
    found = mesh(tmp_path / "a.ply")
    assert code == 0 and len(found.faces) == len(expected.faces)
    corners = expected.vertices[expected.faces.long()].numpy()  # the frame of Pixal3D's mesh is that of glTF
    np.testing.assert_allclose(found.vertices[found.faces], corners, atol=1e-6)


def test_latents_are_kept_and_decoded_later(command, photo, tmp_path):
    for name in ("pixal3d", "trellis2"):
        latents = tmp_path / f"{name}.safetensors"
        options = ("--fov", 35) if name == "pixal3d" else ()
        assert command(name, photo, "-o", tmp_path / "a.ply", "--save-latents", latents, *options, *FAST)[0] == 0
        assert command(name, "--resume", latents, "-o", tmp_path / "b.ply")[0] == 0
        assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
        (tmp_path / "a.ply").unlink()
        (tmp_path / "b.ply").unlink()
    answer = command("trellis2", "--resume", tmp_path / "pixal3d.safetensors", "-o", tmp_path / "c.glb")
    sentence(answer, "latents of Pixal3D", "TRELLIS.2", "use the other command")
    answer = command("pixal3d", "--resume", tmp_path / "trellis2.safetensors", "-o", tmp_path / "c.glb")
    sentence(answer, "latents of TRELLIS.2", "Pixal3D")
    assert not (tmp_path / "c.glb").exists()


def test_latents_without_a_mesh(command, photo, tmp_path):
    code, out, _ = command("trellis2", photo, "--save-latents", tmp_path / "l.safetensors", *FAST)
    assert code == 0 and "tokens for 32^3" in out and not list(tmp_path.glob("*.glb"))


def test_latents_of_networks_of_another_width(command, photo, tmp_path):
    assert command("trellis2", photo, "--save-latents", tmp_path / "l.safetensors", *FAST)[0] == 0
    from safetensors import safe_open

    with safe_open(tmp_path / "l.safetensors", "pt") as file:
        metadata = file.metadata()
    tensors = load_file(tmp_path / "l.safetensors")
    for latent in ("shape", "texture"):
        tensors[f"{latent}.feats"] = torch.zeros(len(tensors[f"{latent}.feats"]), 32)
    save_file(tensors, tmp_path / "wide.safetensors", metadata)
    answer = command("trellis2", "--resume", tmp_path / "wide.safetensors", "-o", tmp_path / "c.glb")
    sentence(answer, "32 channels; this decoder takes 3")
    sentence(command("trellis2", "--resume", photo, "-o", tmp_path / "c.glb"), "photo.png", "not a safetensors file")


def test_the_overlay_needs_no_weights(command, photo, tmp_path):
    code, out, err = command("pixal3d", photo, "--overlay", tmp_path / "o.png", "--fov", 35, weights=False)
    assert (code, err) == (0, "") and "o.png" in out
    assert Image.open(tmp_path / "o.png").size == (768, 768)


def test_the_overlay_of_a_run_shows_its_tokens(command, photo, tmp_path):
    options = (photo, "--fov", 35, "--save-latents", tmp_path / "l.safetensors", *FAST)
    assert command("pixal3d", *options, "--overlay", tmp_path / "tokens.png")[0] == 0
    assert command("pixal3d", photo, "--fov", 35, "--overlay", tmp_path / "lattice.png", weights=False)[0] == 0
    resumed = (photo, "--fov", 35, "--resume", tmp_path / "l.safetensors", "--overlay", tmp_path / "again.png")
    assert command("pixal3d", *resumed)[0] == 0
    tokens, lattice, again = (
        np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("tokens", "lattice", "again")
    )
    assert np.array_equal(tokens, again) and np.abs(tokens - lattice).max() > 100


def transforms(folder, cameras, count):
    """A transforms.json with `count` copies of the picture."""
    folder.mkdir()
    frames = []
    for i in range(count):
        Image.fromarray(picture(size=64)).save(folder / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": cameras_to_opengl(cameras)[i].tolist()})
    angle = math.radians(float(cameras.fov_x[0]))
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "mesh_scale": 1.0, "frames": frames}))
    return folder / "transforms.json"


def test_posed_views(command, tmp_path):
    four = transforms(tmp_path / "four", four_view_rig(64), 4)
    assert command("pixal3d", "--views", four, "-o", tmp_path / "a.ply", *FAST)[0] == 0
    pictures = [tmp_path / "four" / f"{i}.png" for i in range(4)]
    code, _, err = command("pixal3d", *pictures, "--rig", "--mesh-scale", 1, "-o", tmp_path / "b.ply", *FAST)
    assert (code, err) == (0, "")
    a, b = mesh(tmp_path / "a.ply"), mesh(tmp_path / "b.ply")
    assert len(a.faces) == len(b.faces) > 10
    np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-4)


def test_one_posed_view_is_the_front_view(command, families, tmp_path):
    from sightline.models.trellis2.family import load_family
    from sightline.models.trellis2.image_condition import FrontCamera
    from sightline.models.trellis2.latents import decode_latents
    from sightline.pipelines.pixal3d import sample_latents
    from sightline.scene.posed_views import on_black

    one = transforms(tmp_path / "one", front_camera(0.6, 1.6, 64), 1)
    assert command("pixal3d", "--views", one, "-o", tmp_path / "a.ply", *FAST)[0] == 0
    cascade = load_family(families["pixal3d"], "pixal3d", projected=True)
    latents = sample_latents(cascade, [on_black(picture(size=64))], FrontCamera(0.6, 1.6), seed=3, pipeline_type="512")
    expected, found = decode_latents(cascade, latents), mesh(tmp_path / "a.ply")
    corners = expected.vertices[expected.faces.long()].numpy()
    np.testing.assert_allclose(found.vertices[found.faces], corners, atol=1e-4)


def test_a_mask_makes_the_alpha(command, tmp_path, photo):
    rgba = picture()
    Image.fromarray(rgba[..., :3]).save(tmp_path / "rgb.png")
    Image.fromarray(rgba[..., 3]).save(tmp_path / "mask.png")
    assert command("trellis2", photo, "-o", tmp_path / "a.ply", *FAST)[0] == 0
    masked = ("trellis2", tmp_path / "rgb.png", "--mask", tmp_path / "mask.png", "-o", tmp_path / "b.ply", *FAST)
    assert command(*masked)[0] == 0
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    Image.new("L", (9, 9)).save(tmp_path / "small.png")
    answer = command("trellis2", tmp_path / "rgb.png", "--mask", tmp_path / "small.png", "-o", tmp_path / "c.ply")
    sentence(answer, "9x9", "48x48")


def test_the_photo_says_its_field_of_view(command, tmp_path):
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[10:30, 20:40] = 255  # in the middle; the crop is 20 pixels wide
    exif = Image.Exif()
    exif[0x0112] = 1  # an upright photo
    exif.get_ifd(0x8769)[0xA405] = 50
    Image.fromarray(rgba).save(tmp_path / "p.png", exif=exif)
    code, _, err = command("pixal3d", tmp_path / "p.png", "--fov", "exif", "--overlay", tmp_path / "o.png")
    expected = math.degrees(2 * math.atan(36 / 60 * 20 / 100))
    assert code == 0 and f"{expected:.2f} degrees" in err
    Image.fromarray(rgba).save(tmp_path / "q.png")
    answer = command("pixal3d", tmp_path / "q.png", "--fov", "exif", "--overlay", tmp_path / "r.png")
    sentence(answer, "does not say with which focal length")


def test_progress_and_the_assumed_field_of_view(command, photo, tmp_path):
    code, _, err = command("pixal3d", photo, "-o", tmp_path / "a.glb", "--progress", "--type", "1024_cascade")
    assert code == 0 and "49.13 degrees was assumed" in err
    for stage in ("structure", "low shape", "shape", "texture"):
        assert stage in err
    from sightline.cli.pixal3d import DEFAULT_FOV

    assert math.radians(DEFAULT_FOV) == pytest.approx(0.8575560450553894, abs=1e-15)


def test_the_memory_limit_changes_nothing_but_the_way(command, photo, tmp_path):
    for name, limit in (("auto", "auto"), ("off", "off"), ("much", "64")):
        code, _, err = command("trellis2", photo, "-o", tmp_path / f"{name}.ply", "--memory", limit, *FAST)
        assert (code, err) == (0, "")
    meshes = [mesh(tmp_path / f"{name}.ply") for name in ("auto", "off", "much")]
    for other in meshes[1:]:
        assert len(other.faces) == len(meshes[0].faces)
        np.testing.assert_allclose(other.vertices, meshes[0].vertices, atol=1e-4)
    answer = command("trellis2", photo, "-o", tmp_path / "little.ply", "--memory", "0.001", *FAST)
    sentence(answer, "needs", "are free")
    assert not (tmp_path / "little.ply").exists()


def test_pictures_of_nothing(command, tmp_path):
    clear = np.zeros((48, 48, 4), np.uint8)
    dot = clear.copy()
    dot[20, 20] = 255
    cases = {
        "transparent": (clear, "nothing is selected"),
        "dot": (dot, "object is 1 x 1 pixels"),
        "opaque": (np.full((48, 48, 4), 255, np.uint8), "opaque everywhere"),
    }
    for name, (rgba, says) in cases.items():
        Image.fromarray(rgba).save(tmp_path / f"{name}.png")
        for system in ("pixal3d", "trellis2"):
            sentence(command(system, tmp_path / f"{name}.png", "-o", tmp_path / "a.glb"), says)
    assert not (tmp_path / "a.glb").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--fov", "0"), "0 degrees; it must lie between 0 and 180"),
        (("--fov", "180"), "180 degrees; it must lie between 0 and 180"),
        (("--fov", "wide"), "'wide'; give degrees or `exif`"),
        (("--distance", "0"), "--distance is 0"),
        (("--mesh-scale", "-1"), "--mesh-scale is -1"),
        (("--views", "t.json"), "leave --rig and the pictures out"),
        (("--rig", "--fov", "30"), "leave --fov out"),
        (("--rig",), "add --mesh-scale"),
        (("--overlay", "o.jpg"), "does not end in .png"),
        (("--seed", "-1"), "--seed is -1"),
        (("--max-tokens", "0"), "--max-tokens is 0"),
        (("--shape", "speed=3"), "'speed=3'; it takes steps="),
        (("--shape", "steps=x"), "'steps=x'; write it like steps=3"),
        (("--texture", "steps=0"), "from 1 to 1000"),
        (("--structure", "interval=1"), "interval=0.6:1"),
        (("--structure", "rescale_t=0"), "`rescale_t` is 0"),
        (("--device", "tpu"), "'tpu'"),
        (("--mask", "none.png"), "none.png does not exist"),
        (("--memory", "much"), "'much'; give auto, off or a number of GB"),
    ],
)
def test_options_that_cannot_be(command, photo, tmp_path, options, says):
    sentence(command("pixal3d", photo, "-o", tmp_path / "a.glb", *options), says)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_outputs_that_cannot_be(command, photo, tmp_path):
    sentence(command("pixal3d", photo), "nothing to do")
    sentence(command("trellis2", photo), "-o or --save-latents")
    sentence(command("trellis2", "-o", tmp_path / "a.glb"), "Give one picture, or --resume")
    sentence(command("pixal3d", "-o", tmp_path / "a.glb"), "0 pictures were given")
    sentence(command("pixal3d", photo, "-o", tmp_path / "a.obj"), "does not end in .glb or .ply")
    (tmp_path / "a.glb").write_bytes(b"old")
    sentence(command("pixal3d", photo, "-o", tmp_path / "a.glb"), "exists", "--overwrite")
    assert (tmp_path / "a.glb").read_bytes() == b"old"


def test_missing_weights_say_how_to_get_them(run, families, photo, tmp_path):
    def call(name, *more):
        return run(name, photo, "-o", tmp_path / "a.glb", *more)

    sentence(call("pixal3d"), "no pipeline.json", "TencentARC/Pixal3D", "download pixal3d`")
    sentence(call("trellis2"), "microsoft/TRELLIS.2-4B", "download trellis2`")
    family = tmp_path / "pixal3d"
    shutil.copytree(families["pixal3d"], family)
    (family / "naf.safetensors").unlink()
    sentence(call("pixal3d", "--weights", family), "NAF was not found", "download naf`")
    (family / "dinov3" / "model.safetensors").unlink()
    sentence(call("pixal3d", "--weights", family), "DINOv3 was not found", "download dinov3-vitl16`")
    (family / "pipeline_mv.json").unlink()
    views = transforms(tmp_path / "four", four_view_rig(64), 4)
    answer = run("pixal3d", "--views", views, "-o", tmp_path / "a.glb", "--weights", family)
    sentence(answer, "no pipeline_mv.json", "download pixal3d-mv`")
    (family / "ckpts" / "tex_slat_decoder.safetensors").unlink()
    sentence(call("pixal3d", "--weights", family), "tex_slat_decoder", "was not found", "download pixal3d`")


def test_weights_lie_as_the_download_puts_them(run, families, photo, tmp_path, monkeypatch):
    """Every file at owner/repository/name of the registry; the structure decoder of TRELLIS.2 in another repository."""
    from sightline.models.download import plan
    from sightline.models.trellis2.weights import ALL, PIXAL3D_REPO, TRELLIS2_REPO, TRELLIS_REPO

    root = tmp_path / "weights"
    monkeypatch.setenv("SIGHTLINE_WEIGHTS", str(root))
    at = {one.name: plan([one], root) for one in ALL}
    [dino] = [item.target.parent for item in at["dinov3-vitl16"] if item.file.name == "config.json"]
    [naf] = [item.target for item in at["naf"]]
    shutil.copytree(families["trellis2"], root / TRELLIS2_REPO)
    shutil.copytree(families["pixal3d"], root / PIXAL3D_REPO)
    decoder = root / TRELLIS_REPO / "ckpts"
    decoder.mkdir(parents=True)
    for suffix in (".json", ".safetensors"):
        name = f"sparse_structure_decoder{suffix}"
        shutil.move(root / TRELLIS2_REPO / "ckpts" / name, decoder / name)
    document = json.loads((root / TRELLIS2_REPO / "pipeline.json").read_text())
    document["args"]["models"]["sparse_structure_decoder"] = f"{TRELLIS_REPO}/ckpts/sparse_structure_decoder"
    (root / TRELLIS2_REPO / "pipeline.json").write_text(json.dumps(document))
    dino.parent.mkdir(parents=True)
    shutil.move(root / TRELLIS2_REPO / "dinov3", dino)
    shutil.rmtree(root / PIXAL3D_REPO / "dinov3")
    naf.parent.mkdir(parents=True)
    torch.save(load_file(root / PIXAL3D_REPO / "naf.safetensors"), naf)
    shutil.move(root / PIXAL3D_REPO / "naf.json", naf.with_suffix(".json"))
    (root / PIXAL3D_REPO / "naf.safetensors").unlink()
    assert run("trellis2", photo, "-o", tmp_path / "a.glb", *FAST)[0] == 0
    assert run("pixal3d", photo, "-o", tmp_path / "b.ply", "--fov", 35, *FAST)[0] == 0
    assert run("pixal3d", photo, "-o", tmp_path / "c.ply", "--fov", 35, *FAST, "--weights", families["pixal3d"])[0] == 0
    assert (tmp_path / "b.ply").read_bytes() == (tmp_path / "c.ply").read_bytes()
    naf.write_bytes(b"no tensors")
    sentence(
        run("pixal3d", photo, "-o", tmp_path / "d.ply", "--fov", 35), "naf_release.pth is no file of plain tensors"
    )


def test_a_type_the_weights_cannot_do_is_refused_at_once(run, families, photo, tmp_path):
    family = tmp_path / "pixal3d"
    shutil.copytree(families["pixal3d"], family)
    document = json.loads((family / "pipeline.json").read_text())
    del document["args"]["models"]["tex_slat_flow_model_512"]  # as the published family
    (family / "pipeline.json").write_text(json.dumps(document))
    answer = run("pixal3d", photo, "-o", tmp_path / "a.glb", "--weights", family, "--type", "512")
    sentence(answer, "have no tex_slat_flow_model_512, which 512 needs")
    assert run("pixal3d", photo, "-o", tmp_path / "a.glb", "--weights", family, "--type", "1024_cascade")[0] == 0


def test_weights_that_are_no_numbers(run, families, photo, tmp_path):
    family = tmp_path / "trellis2"
    shutil.copytree(families["trellis2"], family)
    path = family / "ckpts" / "shape_slat_flow_model_512.safetensors"
    state = load_file(path)
    state["blocks.0.self_attn.to_qkv.weight"][0, 0] = math.nan
    save_file(state, path)
    answer = run("trellis2", photo, "-o", tmp_path / "a.glb", "--weights", family, *FAST)
    sentence(answer, "blocks.0.self_attn.to_qkv.weight", "not finite", "damaged")
    assert not (tmp_path / "a.glb").exists()
    save_file({k: v for k, v in state.items() if "to_qkv" not in k}, path)
    answer = run("trellis2", photo, "-o", tmp_path / "a.glb", "--weights", family, *FAST)
    sentence(answer, "missing: blocks.0.self_attn.to_qkv.weight")
