"""Draw workflows/genrecon.jpg: photos of the example room, the plan of its chunks, and what the embedded weights make
of it, the ceiling off; run it as a program."""

from pathlib import Path

import torch
from PIL import Image

from sightline.models.genrecon.family import embedded_scene_family
from sightline.models.genrecon.scene_files import world_scene
from sightline.pipelines.genrecon import PlanOptions, decode_latents, plan_scene, sample_scene
from sightline.scene.captures import PointFilter, read_capture
from sightline.scene.plan_picture import plan_picture
from sightline.training.genrecon.truth import doll_house
from sightline.training.procedural_room import make_plain_room

HERE = Path(__file__).parent
SEED = 4_000_000  # of the example room
SIDE = 150


def draw(path: Path) -> None:
    """Read, plan, reconstruct, lay out."""
    scene = read_capture(HERE / "inputs" / "genrecon_room")
    plan = plan_scene(scene, PlanOptions(min_points_per_chunk=60, points=PointFilter(radius=0.25)))
    picture = Image.fromarray(plan_picture(plan.points, plan.layout, scene, 4 * SIDE))
    picture.thumbnail((4 * SIDE, 4 * SIDE))
    family = embedded_scene_family()
    latents = sample_scene(family, plan)
    layout = latents.layout
    mesh = decode_latents(family, latents)
    made = world_scene(mesh, latents.joint_to_world, torch.from_numpy(layout.centers), layout.names)
    colors = made.sample(made.vertices)[:, :3].clamp(0, 1)
    size = make_plain_room(SEED).size
    houses = [doll_house(made.vertices, made.faces, colors, size, azimuth, (400, 300)) for azimuth in (35, 215)]
    left = 2 * 4 * SIDE // 3 + 12
    canvas = Image.new("RGB", (left + picture.width + 412, 4 * SIDE), (255, 255, 255))
    for i, photo in enumerate(scene.photos[:16:2]):
        small = Image.fromarray(photo.read()).resize((4 * SIDE // 3 - 6, SIDE - 6))
        canvas.paste(small, (6 + (i % 2) * 4 * SIDE // 3, 3 + (i // 2) * SIDE))
    canvas.paste(picture, (left, (canvas.height - picture.height) // 2))
    for i, house in enumerate(houses):
        canvas.paste(Image.fromarray(house), (left + picture.width + 8, i * 300))
    canvas.save(path, quality=82, optimize=True)


if __name__ == "__main__":
    draw(HERE / "genrecon.jpg")
