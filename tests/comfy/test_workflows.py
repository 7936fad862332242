"""Every shipped workflow of SparseGen, end to end on a real server, at a small size."""

from pathlib import Path

import numpy as np
import pytest
from comfy_graphs import RANDOM, ROOT, SMALL, api_workflow, editor_workflow, nodes_of, small, views
from PIL import Image, ImageSequence

from sightline.models.sparsegen import load_sparsegen
from sightline.scene.splat_files import read_splats

# those of Pixal3D are run by test_trellis2_nodes
API = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("sparsegen*.json"))
EDITOR = sorted(path.stem for path in (ROOT / "workflows").glob("sparsegen*.json"))


def frames_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def saved(run, suffix: str) -> list[Path]:
    return [path for path in run.files if "output" in path.parts and path.suffix == suffix]


@pytest.mark.parametrize("name", API)
def test_shipped_workflow_makes_splats_and_a_turntable(server, name):
    run = server.run(small(api_workflow(name), weights=None, prefix=f"shipped_{name}"))
    splats = saved(run, ".ply")
    assert splats
    expected = load_sparsegen("sparsegen-tiny")[1].config.num_gaussians
    for path in splats:
        assert len(read_splats(path).check_finite()) == expected
    turntables = saved(run, ".webp")
    assert turntables
    for path in turntables:
        frames = frames_of(path).astype(float)
        assert frames.shape == (4, 64, 64, 3)
        assert frames.std(axis=(1, 2, 3)).min() > 5, "a frame is blank"
        assert min(np.abs(frames[i] - frames[i - 1]).mean() for i in range(4)) > 1, "frames do not differ"
        corners = frames[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.min() > 240, "the background is not white"


@pytest.mark.parametrize("name", API)
def test_second_run_is_wholly_cached_and_a_new_seed_is_not(server, name):
    workflow = small(api_workflow(name), prefix=f"cached_{name}")
    first = server.run(workflow)
    again = server.run(workflow)
    assert again.cached == set(workflow) and again.files and sorted(again.files) == sorted(first.files)
    for sampler in nodes_of(workflow, "SightlineSparseQuerySplatSampler"):
        sampler["inputs"]["seed"] += 1
    changed = server.run(workflow)
    kinds = {workflow[node]["class_type"] for node in set(workflow) - changed.cached}
    assert "SightlineSparseQuerySplatSampler" in kinds
    assert kinds.isdisjoint({"LoadImage", "SightlineViewSet", "SightlineSparseGenLoader"})
    assert saved(changed, ".ply")[0].read_bytes() != saved(first, ".ply")[0].read_bytes()


@pytest.mark.parametrize("name", EDITOR)
def test_editor_workflow_runs_and_gives_what_the_api_one_gives(server, name):
    workflow = small(editor_workflow(name, server.object_info()), weights=None, prefix=f"editor_{name}")
    run = server.run(workflow)
    assert saved(run, ".ply") and saved(run, ".webp")
    if name in API:
        api = server.run(small(api_workflow(name), weights=None, prefix=f"api_{name}"))
        assert saved(api, ".ply")[0].read_bytes() == saved(run, ".ply")[0].read_bytes()


def test_changed_weights_are_loaded_again(server):
    workflow = views()
    server.run(workflow)
    assert server.run(workflow).cached == set(workflow)
    path = server.base / "models" / "sparsegen" / RANDOM
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    run = server.run(workflow)
    assert "3" not in run.cached and "2" in run.cached


def test_one_picture_several_formats_and_files(server):
    workflow = views()
    save = {"splat": ["4", 0], "filename_prefix": "one/s", "format": "splat"}
    workflow["6"] = {"class_type": "SightlineSaveSplat", "inputs": save}
    workflow["5"]["inputs"]["filename_prefix"] = "one/s"
    run = server.run(workflow)
    assert len(read_splats(saved(run, ".ply")[0])) == SMALL.num_gaussians
    assert len(read_splats(saved(run, ".splat")[0])) == SMALL.num_gaussians
    workflow["4"]["inputs"]["seed"] = 5
    second = server.run(workflow)
    assert set(saved(second, ".ply")).isdisjoint(saved(run, ".ply")), "a file was overwritten"


def test_batch_mask_rgba_and_cameras(server):
    """Six pictures: a batch of two, two files, one RGBA that is not square, one with values out of range."""
    workflow = views(
        image=["10", 0],
        **{f"images.image{i}": [node, 0] for i, node in enumerate(["1", "11", "12", "13"], 1)},
        cameras=["14", 0],
    )  # fmt: skip
    workflow["1"]["inputs"]["image"] = "sparsegen_robot.png"
    workflow["10"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 2}}
    workflow["11"] = {"class_type": "LoadImage", "inputs": {"image": "sparsegen_robot_2.png"}}
    workflow["12"] = {"class_type": "SightlineTestBrokenImage", "inputs": {"kind": "rgba"}}
    workflow["13"] = {"class_type": "SightlineTestBrokenImage", "inputs": {"kind": "out of range"}}
    orbit = {"count": 6, "start": 0.0, "sweep": 360.0, "elevation": 10.0, "radius": 1.3, "fov": 51.99}
    workflow["14"] = {"class_type": "SightlineOrbitCameras", "inputs": orbit}
    run = server.run(workflow)
    assert len(run.outputs["2"]["images"]) == 6
    assert saved(run, ".ply")


def test_virtual_cameras_of_a_viewer_and_of_an_orbit(server):
    camera = {"mode": "orbit", "mode.yaw": 120.0, "mode.pitch": 15.0, "mode.distance": 1.3, "fov": 51.99, "roll": 0.0,
              "zoom": 1.0, "camera_type": "perspective", "target_x": 0.0, "target_y": 0.0, "target_z": 0.0}  # fmt: skip
    workflow = views()
    workflow["6"] = {"class_type": "CreateCameraInfo", "inputs": camera}
    orbit = {"count": 2, "start": 100.0, "sweep": 180.0, "elevation": 0.0, "radius": 1.3, "fov": 51.99}
    workflow["7"] = {"class_type": "SightlineOrbitCameras", "inputs": orbit}
    workflow["8"] = {"class_type": "SightlineCameraFrom3DView", "inputs": {"camera_info": ["6", 0], "before": ["7", 0]}}
    workflow["4"]["inputs"].update(virtual_cameras=["8", 0], steps=3)
    assert saved(server.run(workflow), ".ply")


def test_core_nodes_take_our_splats_and_frames(server):
    """Core's save, preview, render and video nodes behind ours; its renderer sees the same from the same side."""
    workflow = views()
    turn = {"frames": 4, "width": 64, "height": 64, "elevation": 20.0, "background": "#ffffff", "start": 0.0,
            "radius": 1.3, "fov": 51.99}  # fmt: skip
    camera = {"mode": "orbit", "mode.yaw": 0.0, "mode.pitch": 20.0, "mode.distance": 1.3, "fov": 51.99, "roll": 0.0,
              "zoom": 1.0, "camera_type": "perspective", "target_x": 0.0, "target_y": 0.0, "target_z": 0.0}  # fmt: skip
    render = {"splat": ["4", 0], "width": 64, "height": 64, "frames": 4, "splat_scale": 1.0, "sharpen": 1.0,
              "headlight_shading": 0.0, "opacity_threshold": 0.0, "background": "#ffffff", "render_style": "color",
              "camera_info": ["22", 0]}  # fmt: skip
    video = {"video": ["26", 0], "filename_prefix": "core/video", "format": "auto", "codec": "auto"}
    workflow |= {
        "20": {"class_type": "SplatToFile3D", "inputs": {"splat": ["4", 0], "format": "ply"}},
        "21": {"class_type": "SaveGaussianSplat", "inputs": {"model_3d": ["20", 0], "filename_prefix": "core/splat",
                                                             "viewport_state": "", "width": 64, "height": 64}},
        "22": {"class_type": "CreateCameraInfo", "inputs": camera},
        "23": {"class_type": "RenderSplat", "inputs": render},
        "24": {"class_type": "SaveImage", "inputs": {"images": ["23", 0], "filename_prefix": "core/render"}},
        "25": {"class_type": "SightlineSplatTurntable", "inputs": {"splat": ["4", 0], **turn}},
        "26": {"class_type": "CreateVideo", "inputs": {"images": ["25", 0], "fps": 8.0}},
        "27": {"class_type": "SaveVideo", "inputs": video},
        "28": {"class_type": "SaveImage", "inputs": {"images": ["25", 0], "filename_prefix": "core/ours"}},
        "29": {"class_type": "PreviewGaussianSplat", "inputs": {"model_3d": ["5", 0], "viewport_state": "",
                                                                "width": 64, "height": 64}},
        "30": {"class_type": "MaskToImage", "inputs": {"mask": ["25", 1]}},
        "31": {"class_type": "ImageBatch", "inputs": {"image1": ["25", 2], "image2": ["30", 0]}},
        "32": {"class_type": "SaveImage", "inputs": {"images": ["31", 0], "filename_prefix": "core/depth"}},
    }  # fmt: skip
    run = server.run(workflow)
    from_core = read_splats(server.base / "output" / run.outputs["21"]["result"][0])
    ours = read_splats(saved(run, ".ply")[0])
    assert len(from_core) == len(ours) == SMALL.num_gaussians
    assert np.allclose(from_core.means, ours.means, atol=1e-5) and np.allclose(from_core.rgb, ours.rgb, atol=1e-5)
    assert list((server.base / "output" / "core").glob("video*"))

    def pictures(node):
        names = [server.base / "output" / "core" / one["filename"] for one in run.outputs[node]["images"]]
        return [np.asarray(Image.open(name).convert("L")).astype(float) for name in names]

    for core, mine in zip(pictures("24"), pictures("28")):  # core blends in linear light, so only shapes are compared
        assert np.corrcoef(core.ravel(), mine.ravel())[0, 1] > 0.9
    assert not np.allclose(pictures("28")[0], pictures("28")[1], atol=2)


def test_a_batch_of_splats_becomes_a_file_and_a_turn_each(server):
    turn = {"splat": ["1", 0], "frames": 3, "width": 32, "height": 48, "elevation": 0.0, "background": "#204060",
            "start": 0.0, "radius": 0.0, "fov": 51.99}  # fmt: skip
    workflow = {
        "1": {"class_type": "SightlineTestBrokenSplat", "inputs": {"kind": "two"}},
        "2": {"class_type": "SightlineSaveSplat",
              "inputs": {"splat": ["1", 0], "filename_prefix": "two/s", "format": "ply"}},
        "3": {"class_type": "SightlineSplatTurntable", "inputs": turn},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "two/turn"}},
    }  # fmt: skip
    run = server.run(workflow)
    files = [read_splats(path) for path in saved(run, ".ply")]
    assert [len(splats) for splats in files] == [5, 2]
    assert files[0].sh.shape[1] == 4, "view-dependent color was lost"
    pictures = [np.asarray(Image.open(path)) for path in saved(run, ".png")]
    assert len(pictures) == 6 and all(picture.shape == (48, 32, 3) for picture in pictures)
    assert all(tuple(picture[0, 0]) == (0x20, 0x40, 0x60) for picture in pictures), "all of it should be in the picture"


def test_the_preview_of_a_large_turn_is_small(server):
    turn = {"splat": ["1", 0], "frames": 80, "width": 600, "height": 64, "elevation": 0.0, "background": "#ffffff",
            "start": 0.0, "radius": 0.0, "fov": 51.99}  # fmt: skip
    workflow = {
        "1": {"class_type": "SightlineTestBrokenSplat", "inputs": {"kind": "two"}},
        "2": {"class_type": "SightlineSplatTurntable", "inputs": turn},
        "3": {"class_type": "ImageFromBatch", "inputs": {"image": ["2", 0], "batch_index": 0, "length": 1}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    run = server.run(workflow)
    shown = frames_of(server.base / "temp" / run.outputs["2"]["images"][0]["filename"])
    # of 160 frames 600 pixels wide; equal neighbors become one in the file
    assert 20 < len(shown) <= 54 and max(shown.shape[1:3]) == 512
