"""PBR voxels to a texture: the same mesh, texture coordinates and voxels for everyone."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op


def _case(case):
    """A bumpy body with box charts, and the voxels around it: vertices, faces, uv, coords, attributes."""
    import torch

    from ...kernels.uv.unwrap import unwrap
    from .unwrap import bumpy_body

    r = case["resolution"]
    vertices, faces = bumpy_body(case["side"])
    done = unwrap(vertices, faces, case["texture"], 4, method="box")
    dense, corners = bumpy_body(r // 2)
    cells = torch.unique(((dense[corners].mean(1) + 0.5) * r).floor().long(), dim=0)
    steps = torch.stack(torch.meshgrid(*[torch.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coords = torch.unique((cells[:, None] + steps).reshape(-1, 3), dim=0)
    place = (coords + 0.5) / r - 0.5
    color = 0.5 + 0.4 * torch.sin(9 * place + torch.tensor([0.0, 1, 2]))
    rest = 0.5 + 0.4 * torch.cos(7 * place)
    return vertices[done.source], done.faces, done.uv, coords, torch.cat([color, rest], 1)


def _ours(case):
    from ...pipelines.mesh_bake import Voxels, bake_part
    from ...scene.gltf import Part

    vertices, faces, uv, coords, attributes = _case(case)
    part, voxels = Part(vertices, faces, uv=uv), Voxels(coords, attributes, case["resolution"])

    def run():
        made = bake_part(part, voxels, case["texture"], alpha="OPAQUE")
        material = made.part.material
        return {"base_color": _charts(material.base_color, made), "rough": _charts(material.metallic_roughness, made)}

    return run


def _charts(image, made):
    """Only the texels inside charts: gutters differ by taste."""
    return image.reshape(-1, image.shape[2]) * made.texels.mask.reshape(-1, 1)


def _core(case):
    module = opponents.comfyui("comfy_extras.nodes_mesh_postprocess", case["device"])
    vertices, faces, uv, coords, attributes = _case(case)

    def run():
        import torch

        from ...kernels.bake import find_texels

        *_, color, rough = module.bake_texture_from_voxel_fn(
            vertices, faces, coords, attributes, case["resolution"], case["texture"], uv
        )
        run.mask = getattr(run, "mask", None)
        if run.mask is None:
            run.mask = find_texels(uv, faces, case["texture"]).mask.reshape(-1, 1)
        rough = torch.stack([rough[..., 2], rough[..., 1]], -1)
        return {"base_color": color.reshape(-1, 3) * run.mask, "rough": rough.reshape(-1, 2) * run.mask}

    return run


OPS = [
    Op(
        "bake",
        "voxels to base color, metallic and roughness textures",
        {
            "S": dict(side=20, resolution=64, texture=128),
            "M": dict(side=58, resolution=160, texture=512),
            "L": dict(side=91, resolution=256, texture=1024),
        },
        (Contender("ours", _ours), Contender("core BakeTextureFromVoxel", _core, same=False, note="texels at borders")),
    )
]
