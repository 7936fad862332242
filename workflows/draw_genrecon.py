"""Draw workflows/genrecon.jpg, photos of the example room and the plan of its chunks; run it as a program."""

from pathlib import Path

from PIL import Image

from sightline.pipelines.genrecon import PlanOptions, plan_scene
from sightline.scene.alignment import align_scene
from sightline.scene.captures import PointFilter, read_capture
from sightline.scene.plan_picture import plan_picture

HERE = Path(__file__).parent
SIDE = 190


def draw(path: Path) -> None:
    """Read, plan, lay out."""
    scene = align_scene(read_capture(HERE / "inputs" / "genrecon_room"))
    plan = plan_scene(scene, PlanOptions(min_points_per_chunk=60, points=PointFilter(radius=0.25)))
    picture = Image.fromarray(plan_picture(plan.points, plan.layout, scene, 620))
    height = picture.height
    canvas = Image.new("RGB", (2 * 4 * SIDE // 3 + 24 + picture.width, max(height, 4 * SIDE)), (255, 255, 255))
    for i, photo in enumerate(scene.photos[:8]):
        small = Image.fromarray(photo.read()).resize((4 * SIDE // 3 - 6, SIDE - 6))
        canvas.paste(small, (6 + (i % 2) * 4 * SIDE // 3, 3 + (i // 2) * SIDE))
    canvas.paste(picture, (2 * 4 * SIDE // 3 + 18, (canvas.height - height) // 2))
    canvas.save(path, quality=82, optimize=True)


if __name__ == "__main__":
    draw(HERE / "genrecon.jpg")
