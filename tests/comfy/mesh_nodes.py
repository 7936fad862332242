"""Run the mesh nodes on ragged batches and on what they refuse: ``python mesh_nodes.py COMFYUI_TREE BASE_FOLDER``.

Judged by `test_mesh_nodes.py`.
"""

from inside_comfyui import answer, enter, our_nodes


def ball(resolution: int, radius: float, side: int):
    """A closed ball, and the voxels around it."""
    import torch

    from sightline.cli.bench.unwrap import bumpy_body

    vertices, faces = bumpy_body(side)
    vertices = vertices * (radius / 0.4)
    line = (torch.arange(resolution) + 0.5) / resolution - 0.5
    place = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    near = ((place.norm(dim=1) - radius).abs() < 4 / resolution) | (place.norm(dim=1) < radius)
    coords = ((place[near] + 0.5) * resolution).floor().long()
    color = torch.cat([place[near] + 0.5, torch.full((len(coords), 2), 0.25), torch.ones(len(coords), 1)], 1)
    return vertices, faces, coords, color


def batch(items, types):
    """Ragged MESH and sparse VOXEL of several balls."""
    import torch

    pad = torch.nn.utils.rnn.pad_sequence
    mesh = types.MESH(
        pad([v for v, *_ in items], batch_first=True),
        pad([f.int() for _, f, *_ in items], batch_first=True),
        vertex_counts=torch.tensor([len(v) for v, *_ in items]),
        face_counts=torch.tensor([len(f) for _, f, *_ in items]),
    )
    coords = torch.cat([torch.nn.functional.pad(c, (1, 0), value=i) for i, (*_, c, _) in enumerate(items)])
    return mesh, colored(types, coords, torch.cat([c for *_, c in items]), 24)


def colored(types, coords, colors, resolution):
    """A sparse VOXEL; hosts before 0.33 carry colors as attributes."""
    voxel = types.VOXEL(coords)
    voxel.voxel_colors, voxel.resolution = colors, resolution
    return voxel


def main() -> None:
    enter()
    nodes = our_nodes()
    import torch
    from comfy_api.latest import Types

    unwrap, bake = nodes["SightlineUnwrap"].execute, nodes["SightlineTextureBake"].execute
    write = nodes["SightlineGLBBake"].execute
    settings = dict(
        texture_size=64, padding=2, normal_map=True, ambient_occlusion=True, alpha="auto", photo_strength=1.0
    )
    file = dict(
        filename_prefix="nodes/ball", textures="png", meters=2.0, double_sided=False, also="obj", license="CC0-1.0"
    )
    said: dict = {}
    with torch.inference_mode():  # as the host runs nodes
        mesh, voxel = batch([ball(24, 0.4, 5), ball(24, 0.3, 3)], Types)
        untouched = mesh.vertices.clone(), mesh.faces.clone()
        flat = unwrap(mesh, 64, 2, "box", False, 30.0, 1000).args[0]
        said["kept"] = unwrap(flat, 64, 2, "box", True, 30.0, 1000).args[0] is flat
        baked, picture = bake(flat, voxel=voxel, reference=mesh, **settings).args
        said["same uv"] = bool(torch.equal(baked.uvs, flat.uvs) and torch.equal(baked.vertices, flat.vertices))
        said["input untouched"] = torch.equal(mesh.vertices, untouched[0]) and torch.equal(mesh.faces, untouched[1])
        said["shapes"] = [list(x.shape) for x in (picture, baked.texture, baked.metallic_roughness, baked.normal_map)]
        said["counts"] = [baked.vertex_counts.tolist(), baked.face_counts.tolist(), mesh.face_counts.tolist()]
        said["occlusion"] = bool(baked.occlusion_in_mr)
        said["darkest"] = float(picture.amax(-1).min())
        written = write(baked, **file)
        said["files"] = [entry.filename for entry in written.ui["3d"]]
        said["first"] = str(written.args[0].get_source())
        clear = colored(Types, voxel.data, voxel.voxel_colors.clone(), 24)
        clear.voxel_colors[:, 5] = (voxel.data[:, 2] > 12).float()
        masked = bake(flat, voxel=clear, **settings).args[0]
        said["mask"] = masked.material["sightline_alpha_mode"]
        said["mask file"] = str(write(masked, **{**file, "also": "ply"}).args[0].get_source())

        dense = Types.VOXEL(torch.zeros(1, 4, 4, 4))
        empty = Types.MESH(mesh.vertices, mesh.faces[:, :0])
        broken = Types.MESH(mesh.vertices * torch.nan, mesh.faces)
        outside = Types.MESH(mesh.vertices, mesh.faces + 10_000)
        flat_one = Types.MESH(flat.vertices[:1], flat.faces[:1])
        tiled = Types.MESH(flat.vertices[:1], flat.faces[:1], uvs=flat.uvs[:1] * 3)
        coarse = colored(Types, voxel.data, voxel.voxel_colors, 8)
        more = torch.cat([voxel.data, voxel.data[:1] + torch.tensor([2, 0, 0, 0])])
        colors = torch.cat([voxel.voxel_colors, voxel.voxel_colors[:1]])
        three = colored(Types, more, colors, 24)
        refused = {}
        for name, call in {
            "dense": lambda: bake(flat, voxel=dense, **settings),
            "no faces": lambda: unwrap(empty, 64, 2, "box", False, 30.0, 1000),
            "nan": lambda: unwrap(broken, 64, 2, "box", False, 30.0, 1000),
            "out of range": lambda: unwrap(outside, 64, 2, "box", False, 30.0, 1000),
            "tiles": lambda: bake(tiled, reference=flat_one, **settings),
            "40k": lambda: bake(flat, voxel=voxel, **{**settings, "texture_size": 40000}),
            "resolution": lambda: bake(flat, voxel=coarse, **settings),
            "items": lambda: bake(flat, voxel=three, **settings),
            "nothing": lambda: bake(flat, **settings),
            "prefix": lambda: write(flat, **{**file, "filename_prefix": "../x"}),
        }.items():
            try:
                call()
            except Exception as error:  # what the artist would read
                refused[name] = f"{type(error).__name__}: {error}"
        said["refused"] = refused
    answer(said)


if __name__ == "__main__":
    main()
