"""A node pack for the tests: values that no well-behaved node gives."""

import importlib.util

import torch

from . import tiny_text_encoders  # noqa: F401  (for what it does)

if importlib.util.find_spec("comfy.ldm.trellis2") is not None:
    from . import tiny_pixal3d  # noqa: F401  (for what it does)


class BrokenImage:
    KINDS = {
        "nan": lambda: torch.full((1, 32, 32, 3), float("nan")),
        "no pixels": lambda: torch.zeros(1, 0, 32, 3),
        "no pictures": lambda: torch.zeros(0, 32, 32, 3),
        "seven": lambda: torch.rand(7, 32, 32, 3),
        "two channels": lambda: torch.zeros(1, 32, 32, 2),
        "out of range": lambda: torch.rand(1, 32, 32, 3) * 4 - 1,
        "rgba": lambda: torch.rand(1, 32, 24, 4),
    }

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (list(cls.KINDS),)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "test"

    def make(self, kind):
        return (self.KINDS[kind](),)


class BrokenMask:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["empty", "nan", "three"],)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("MASK",), "make", "test"

    def make(self, kind):
        nan = torch.full((1, 8, 8), float("nan"))
        return ({"empty": torch.zeros(1, 32, 32), "nan": nan, "three": torch.ones(3, 8, 8)}[kind],)


class BrokenCamera:
    CAMERA = {"position": {"x": 0.0, "y": 0.0, "z": 1.3}, "target": {"x": 0.0, "y": 0.0, "z": 0.0}, "fov": 51.99}
    CHANGES = {
        "zero determinant": {"quaternion": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 0.0}},
        "at its target": {"target": {"x": 0.0, "y": 0.0, "z": 1.3}},
        "nan": {"position": {"x": float("nan"), "y": 0.0, "z": 1.3}},
        "orthographic": {"cameraType": "orthographic"},
        "no position": {"position": None},
        "another fov": {"fov": 20.0},
    }

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (list(cls.CHANGES),)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("LOAD3D_CAMERA",), "make", "test"

    def make(self, kind):
        return (self.CAMERA | self.CHANGES[kind],)


class BrokenSplat:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["no splats", "nan", "two"],)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("SPLAT",), "make", "test"

    def make(self, kind):
        from comfy_api.latest import Types

        if kind == "two":  # a good one: a batch of two with 5 and 2 Gaussians
            quats = torch.tensor([1.0, 0, 0, 0]).expand(2, 5, 4)
            generator = torch.Generator().manual_seed(0)  # far enough apart to be framed by their centers
            means, sh = torch.rand(2, 5, 3, generator=generator), torch.rand(2, 5, 4, 3, generator=generator)
            return (Types.SPLAT(means, torch.full((2, 5, 3), 0.05), quats, torch.ones(2, 5, 1), sh,
                                torch.tensor([5, 2])),)  # fmt: skip
        n, value = {"no splats": (0, 0.0), "nan": (4, float("nan"))}[kind]
        quats = torch.zeros(1, n, 4)
        quats[..., 0] = 1
        means, ones = torch.full((1, n, 3), value), torch.ones(1, n, 3)
        return (Types.SPLAT(means, ones, quats, ones[..., :1], torch.zeros(1, n, 1, 3)),)


class Text:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "make", "test"

    def make(self, text):
        return (text,)


NODE_CLASS_MAPPINGS = {
    f"SightlineTest{cls.__name__}": cls for cls in (BrokenImage, BrokenMask, BrokenCamera, BrokenSplat, Text)
}
