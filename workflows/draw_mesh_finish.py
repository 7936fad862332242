"""Make workflows/inputs/torn_vase.glb and draw workflows/mesh-finish.jpg: ``python workflows/draw_mesh_finish.py``.

The vase is what users bring: every triangle has vertices of its own, some are missing, some turned inside out, crumbs
lie around it, its colors are in the vertices. The picture shows it before and after the example workflow.
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw

from sightline.kernels.mesh_render import render_mesh
from sightline.pipelines.mesh_bake import bake_part, unwrap_part
from sightline.pipelines.mesh_finish import FinishOptions, finish_mesh
from sightline.scene.cameras import turntable
from sightline.scene.frames import turn_points
from sightline.scene.gltf import Material, Part, encode_glb
from sightline.scene.images import to_pillow
from sightline.scene.mesh_read import read_mesh

HERE = Path(__file__).parent
VASE = HERE / "inputs" / "torn_vase.glb"
SIDE, GAP, VIEWS = 240, 6, 4


def torn_vase(around: int = 36, up: int = 28) -> Part:
    """A turned vase with a painted band, torn."""
    g = torch.Generator().manual_seed(5)
    t = torch.linspace(0, 1, up + 1)
    radius = 0.16 + 0.13 * torch.sin(3.1 * t + 0.35) + 0.05 * torch.cos(9 * t)
    outer = torch.stack([radius, t - 0.5], 1)
    inner = torch.stack([(radius - 0.02).clamp(min=0.01), t - 0.5], 1).flip(0)
    inner[-1, 1] += 0.02  # the bottom has a thickness
    profile = torch.cat([torch.tensor([[1e-6, -0.5]]), outer, inner, torch.tensor([[1e-6, -0.48]])])
    angle = torch.arange(around) / around * 2 * torch.pi
    rings = torch.stack([
        profile[:, :1] * angle.cos(), profile[:, 1:].expand(-1, around), profile[:, :1] * angle.sin()
    ], -1)  # fmt: skip
    index = torch.arange(rings.shape[0] * around).view(-1, around)
    a, b, c, d = index[:-1], index[:-1].roll(-1, 1), index[1:].roll(-1, 1), index[1:]
    faces = torch.cat([torch.stack([a, d, b], -1), torch.stack([b, d, c], -1)]).reshape(-1, 3)
    soup = rings.reshape(-1, 3)[faces]  # [F, 3, 3]
    area = torch.linalg.cross(soup[:, 1] - soup[:, 0], soup[:, 2] - soup[:, 0]).norm(dim=1)
    soup = soup[area > 1e-9]
    soup = soup[torch.rand(len(soup), generator=g) > 0.01]
    turned = torch.rand(len(soup), generator=g) < 0.15
    soup[turned] = soup[turned].flip(1)
    crumbs = torch.randn(30, 1, 3, generator=g) * 0.3 + torch.randn(30, 3, 3, generator=g) * 0.003
    place = torch.cat([soup, crumbs]).reshape(-1, 3)
    x, y, z = place.unbind(1)
    wave = torch.sin(8 * torch.atan2(z, x)) * 0.5 + 0.5
    clay, blue, cream = (torch.tensor(c) for c in ((0.55, 0.22, 0.1), (0.05, 0.12, 0.4), (0.85, 0.75, 0.55)))
    band = ((y - 0.05).abs() < 0.1 + 0.05 * wave)[:, None]
    line = ((y + 0.25).abs() < 0.025)[:, None]
    color = torch.where(band, cream * wave[:, None] + blue * (1 - wave[:, None]), torch.where(line, cream, clay))
    colors = torch.cat([(color * 255).round() / 255, torch.ones(len(color), 1)], 1)
    return Part(
        place, torch.arange(len(place)).view(-1, 3), Material("Clay", metallic_factor=0.0), "Vase", colors=colors
    )


def finish(part: Part) -> tuple[Part, str]:
    """What the example workflow does."""
    clean, report = finish_mesh(part, FinishOptions(faces=3000, holes=0.3))
    done, _ = unwrap_part(clean, 1024, 4)
    return bake_part(done, part, 1024).part, report.text()


def views(part: Part) -> list[Image.Image]:
    """The part turned."""
    uv = None if part.uv is None else torch.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    colors = None if part.colors is None else part.colors[:, :3].clamp(min=0) ** (1 / 2.2)
    place = turn_points(part.vertices, "y_up", "z_up")
    cameras = turntable(VIEWS, 25.0, 2.0, 40.0, SIDE, SIDE, start=-60.0)
    # faces seen from behind are dark, as in a renderer that draws one side
    shown = render_mesh(
        place, part.faces, cameras, vertex_colors=colors, uv=uv, texture=part.material.base_color, normals=(
            None if part.normals is None else turn_points(part.normals, "y_up", "z_up")
        ), samples=2,
    )  # fmt: skip
    pictures = shown.rgb.clone()
    for picture, mask, face, camera in zip(pictures, shown.mask, shown.face, cameras):
        a, b, c = place[part.faces[face[mask]]].unbind(1)
        behind = (torch.linalg.cross(b - a, c - a) * (camera.centers[0] - a)).sum(1) < 0
        dark = picture[mask]
        dark[behind] *= 0.3
        picture[mask] = dark
    return [to_pillow(picture.movedim(-1, 0)) for picture in pictures]


def draw(path: Path) -> str:
    """Finish the vase and write the picture; returns the report."""
    before = read_mesh(VASE)
    after, text = finish(before)
    sheet = Image.new("RGB", (VIEWS * (SIDE + GAP) + GAP + SIDE + GAP, 2 * (SIDE + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, part in enumerate((before, after)):
        for column, picture in enumerate(views(part)):
            sheet.paste(picture, (GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP)))
    material = after.material
    for row, texture in enumerate((material.base_color, material.normal)):
        picture = to_pillow(texture[..., :3].movedim(-1, 0)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (GAP + VIEWS * (SIDE + GAP), GAP + row * (SIDE + GAP)))
    pen.text((GAP, GAP), f"{len(before.faces):,} faces", fill="black")
    pen.text((GAP, 2 * GAP + SIDE), f"{len(after.faces):,} faces", fill="black")
    sheet.save(path, quality=88)
    return text


if __name__ == "__main__":
    torch.set_num_threads(1)
    if not VASE.exists():
        VASE.write_bytes(encode_glb([torn_vase()]))
    print(draw(HERE / "mesh-finish.jpg"))
