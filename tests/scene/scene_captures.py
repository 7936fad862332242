"""A small capture for the tests: a box room of points, cameras in it, gray pictures, written as a COLMAP folder."""

import numpy as np
from PIL import Image

from sightline.scene.colmap import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints, encode_colmap


def room_points(count=1500, size=(5.0, 4.0, 2.6), seed=0):
    """Points on floor, ceiling and walls of a room, Z up, floor at 0, centered in x and y."""
    draw = np.random.default_rng(seed)
    points = draw.uniform(-0.5, 0.5, (count, 3)) * size
    face = draw.choice(6, count, p=[0.3, 0.1, 0.15, 0.15, 0.15, 0.15])
    for f, (axis, sign) in enumerate([(2, -1), (2, 1), (0, -1), (0, 1), (1, -1), (1, 1)]):
        points[face == f, axis] = sign * size[axis] / 2
    return points + [0, 0, size[2] / 2]


def look(eye, target):
    """World -> camera (x right, y down, z forward) of a camera in a world Z up."""
    forward = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = [right, np.cross(forward, right), forward]
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose


def quaternion(rotation):
    import torch

    from sightline.scene.rotations import quaternion_from_matrix

    return tuple(quaternion_from_matrix(torch.from_numpy(rotation.copy())[None])[0].tolist())


def model(views=6, camera=None, points=None, world=None):
    """A COLMAP model; world [4, 4] turns, scales and shifts it all."""
    camera = camera or ColmapCamera("PINHOLE", 48, 32, (30.0, 30.0, 24.0, 16.0))
    points = room_points() if points is None else points
    world = np.eye(4) if world is None else world
    scale = np.cbrt(np.linalg.det(world[:3, :3]))
    images = []
    for i in range(views):
        angle = 2 * np.pi * i / views
        pose = look([0.6 * np.cos(angle), 0.6 * np.sin(angle), 1.5], [4 * np.cos(angle), 4 * np.sin(angle), 1.1])
        pose = pose @ np.linalg.inv(world)
        pose[:3] *= scale
        images.append(ColmapImage(i + 1, quaternion(pose[:3, :3]), tuple(pose[:3, 3]), 1, f"shot/{i:03d}.png"))
    turned = points @ world[:3, :3].T + world[:3, 3]
    count = len(points)
    cloud = ColmapPoints(turned, np.full((count, 3), 90, np.uint8), np.ones(count), np.full(count, 5))
    return ColmapModel({1: camera}, images, cloud)


def write_capture(folder, parsed, binary=False, pictures="images", size=None):
    """The model in FOLDER/sparse/0 and a gray ramp for every image in FOLDER/pictures."""
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    for name, data in encode_colmap(parsed, binary).items():
        (place / name).write_bytes(data)
    for image in parsed.images:
        camera = parsed.cameras[image.camera]
        width, height = size or (camera.width, camera.height)
        ramp = np.linspace(30, 220, width * height * 3).reshape(height, width, 3).astype(np.uint8)
        target = folder / pictures / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp).save(target)
    return folder
