"""The registry of accelerators, with made-up libraries in the place of gsplat."""

import sys
from dataclasses import replace

import pytest
import torch
from splat_scenes import planes, scene

from sightline.kernels import backends
from sightline.kernels.backends import Accelerator
from sightline.kernels.splat import rasterize
from sightline.scene.errors import MissingDependency

# A gsplat that computes with our own twin, and variants of it that do not.
GSPLAT = """
import torch
from sightline.kernels.splat.dense import rasterize_dense
from sightline.kernels.splat.projection import project
calls = []
def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane, far_plane, eps2d,
                  radius_clip, packed, rasterize_mode, render_mode):
    assert rasterize_mode == "classic" and render_mode == "RGB+D" and eps2d == 0.3 and radius_clip == 0
    calls.append(len(means))
    p = project(means, quats, scales, opacities, viewmats, Ks, width, height, near_plane, far_plane)
    image, alpha = rasterize_dense(p, opacities, torch.cat([colors, p.depth[..., None]], -1), width, height)
    return {image}, alpha[..., None], {{}}
"""


@pytest.fixture
def gsplat(tmp_path, monkeypatch):
    """Installs a module `gsplat` with the given text, on whatever device there is."""
    known, verdicts = dict(backends.KNOWN), dict(backends._verdicts)
    real = sys.modules.pop("gsplat", None)

    def install(text):
        (tmp_path / "gsplat.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        backends.register(replace(known["gsplat"], device="cpu"))

    yield install
    sys.modules.pop("gsplat", None)
    if real is not None:
        sys.modules["gsplat"] = real
    backends.KNOWN.clear()
    backends.KNOWN.update(known)
    backends._verdicts.clear()
    backends._verdicts.update(verdicts)


def entry(**options):
    return next(e for e in backends.report(**options) if e["name"] == "gsplat")


def test_one_that_agrees(gsplat):
    gsplat(GSPLAT.format(image="image"))
    assert "gsplat" in backends.found() and "gsplat" not in sys.modules, "finding is not importing"
    assert entry(compare=False)["verdict"] == "not compared"
    assert backends.usable("gsplat")
    assert entry()["verdict"] == "agreed" and entry()["worst_error"] < 1e-6 and entry()["reason"] is None
    import gsplat as module

    before = len(module.calls)
    assert backends.usable("gsplat") and len(module.calls) == before, "compared once"
    inputs, *cameras = scene(1, (2,), 2, 40)
    found = rasterize(*inputs, *cameras, backend="gsplat", background=(0.3, 0.2, 0.1))
    assert len(module.calls) > before
    torch.testing.assert_close(
        planes(found), planes(rasterize(*inputs, *cameras, backend="dense", background=(0.3, 0.2, 0.1)))
    )
    leaves = [t[:, :0].requires_grad_() for t in inputs]
    empty = rasterize(*leaves, *cameras, backend="gsplat")
    assert not empty.alpha.any() and empty.color.shape == (2, 2, 32, 40, 3)


def test_the_cpu_never_asks_for_it(gsplat):
    gsplat("raise RuntimeError('must not be imported')")
    inputs, *cameras = scene(1, (), 1, 40)
    assert rasterize(*inputs, *cameras, backend="auto").alpha.max() > 0.1
    assert "gsplat" not in backends._verdicts


@pytest.mark.parametrize(
    "image", ["image * 1.01", "image.flip(-2)", "image * float('nan')", "image.detach() + 0 * image"]
)
def test_one_that_disagrees(gsplat, image):
    gsplat(GSPLAT.format(image=image))
    assert not backends.usable("gsplat")
    found = entry()
    assert found["verdict"] == "disagreed" and found["worst_error"] > 1e-4 and "worst error" in found["reason"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "OSError: libcudart.so.12"),
        ("import a_library_that_is_not_there", "ModuleNotFoundError"),
        (
            "def rasterization(*args, **options):\n    raise RuntimeError('no kernel image\\nfor this device')",
            "no kernel image for this",
        ),
        ("x = 1", "MissingDependency"),
    ],
)
def test_one_that_is_broken(gsplat, text, reason):
    gsplat(text)
    assert "gsplat" in backends.found()
    assert not backends.usable("gsplat")
    assert entry()["verdict"] == "broken" and reason in entry()["reason"] and "\n" not in entry()["reason"]


def test_one_that_is_not_there():
    backends.register(
        Accelerator("nothing", "an operation", "a_library_that_is_not_there", lambda device: 0.0, install="pip x")
    )
    try:
        assert "nothing" not in backends.found() and not backends.usable("nothing")
        found = next(e for e in backends.report() if e["name"] == "nothing")
        assert found["verdict"] == "not found" and found["install"] == "pip x" and found["version"] is None
    finally:
        del backends.KNOWN["nothing"], backends._verdicts["nothing"]


def test_one_without_its_device(gsplat, monkeypatch):
    gsplat("raise RuntimeError('must not be imported')")
    backends.register(replace(backends.KNOWN["gsplat"], device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert entry()["verdict"] == "no device" and "cuda" in entry()["reason"]


def test_asking_for_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    inputs, *cameras = scene(1, (), 1, 5)
    with pytest.raises(MissingDependency, match="pip install gsplat"):
        rasterize(*inputs, *cameras, backend="gsplat")
