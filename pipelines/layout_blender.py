"""The control picture by Blender's Cycles, as the authors draw it, where the Python package bpy is installed.

Minutes where the built-in renderer takes seconds; for comparison. Source of all settings: spec section 3.1.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..kernels.box_render.scene import (
    FACE_ALPHA,
    FACE_COLOR,
    FLOOR_ALBEDO,
    FLOOR_CENTER,
    FLOOR_HALF,
    LIGHT_POWER,
    BoxScene,
)
from ..scene.document import Document
from ..scene.document.geometry import box_center, box_rotation, camera_pose
from ..scene.errors import MissingDependency

SAMPLES = 32
THICKNESS = 0.01  # of the wireframe modifier, for a cube of side 0.5
HINT = "Blender's renderer needs the Python package bpy (pip install bpy, with the Python version it asks for)."


def has_blender(required: bool = False) -> bool:
    """Whether bpy can be imported; with `required` raises MissingDependency where not."""
    found = importlib.util.find_spec("bpy") is not None
    if required and not found:
        raise MissingDependency(HINT)
    return found


def render_blender(document: Document, scene: BoxScene, samples: int = SAMPLES) -> Tensor:
    """The picture [H, W, 3] float32, 0 to 1, of a canonical document by Cycles on the CPU, 8 bits a channel.

    scene: the same as `layout_render.box_scene` gives, for the lights and the size. Empties Blender's own scene. Raises
    MissingDependency without bpy.
    """
    has_blender(required=True)
    try:
        import bpy
    except ImportError as error:
        raise MissingDependency(f"{HINT} It is there but does not load: {error}") from error
    bpy.ops.wm.read_factory_settings(use_empty=True)
    stage = bpy.context.scene
    stage.world = None
    collection = stage.collection

    def add(name: str, data, matrix: np.ndarray):
        thing = bpy.data.objects.new(name, data)
        thing.matrix_world = matrix.T.tolist()
        collection.objects.link(thing)
        return thing

    for light in scene.lights.tolist():
        lamp = bpy.data.lights.new("Light", "POINT")
        lamp.energy, lamp.shadow_soft_size = LIGHT_POWER, 0.0
        add("Light", lamp, _place(np.eye(3), light))
    if scene.floor:
        x, y = FLOOR_CENTER
        corners = [(x + a * FLOOR_HALF, y + b * FLOOR_HALF, 0.0) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        mesh = bpy.data.meshes.new("Floor")
        mesh.from_pydata(corners, [], [(0, 1, 2, 3)])
        material = bpy.data.materials.new("Floor")
        material.diffuse_color = (FLOOR_ALBEDO, FLOOR_ALBEDO, FLOOR_ALBEDO, 1.0)
        mesh.materials.append(material)
        add("Floor", mesh, np.eye(4))
    faces = [_face(bpy, color) for color in ((0, FACE_COLOR, 0), (0, 0, FACE_COLOR), (FACE_COLOR, 0, 0))]
    for one, edge in zip(document.picture_objects, scene.edge_colors.tolist()):
        mesh = _cube(bpy)
        wire = _wire(bpy, edge)
        for material in (*faces, wire, wire, wire):
            mesh.materials.append(material)
        box = add("Box", mesh, _place(box_rotation(one) @ np.diag(one.size) * 2.0, box_center(one)))
        frame = box.modifiers.new("Wireframe", "WIREFRAME")
        frame.thickness, frame.use_even_offset, frame.use_replace = THICKNESS, True, False
        frame.material_offset = 3
    pose, camera = camera_pose(document.camera), document.camera
    lens = bpy.data.cameras.new("Camera")
    lens.lens, lens.sensor_width, lens.sensor_fit = camera.lens_mm, camera.sensor_mm, "AUTO"
    lens.shift_x, lens.shift_y = (-camera.shift[0], -camera.shift[1])
    lens.clip_start, lens.clip_end = camera.near, camera.far
    stage.camera = add("Camera", lens, _place(pose.rotation, pose.center))
    render = stage.render
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y, render.resolution_percentage = scene.width, scene.height, 100
    stage.cycles.device, stage.cycles.samples, stage.cycles.seed = "CPU", samples, 0
    stage.cycles.use_denoising, stage.cycles.transparent_max_bounces = True, scene.max_crossings or 1024
    stage.view_settings.view_transform, stage.view_settings.look = "AgX", "None"
    render.image_settings.file_format = "PNG"
    with tempfile.TemporaryDirectory() as folder:
        render.filepath = str(Path(folder) / "control.png")
        bpy.ops.render.render(write_still=True)
        from PIL import Image

        with Image.open(render.filepath) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255


def _place(rotation: np.ndarray, place) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, place
    return matrix


def _cube(bpy):
    """A cube of side 0.5 whose local -X side has material 1, +Y 2, and the others 0."""
    q = 0.25
    corners = [(x, y, z) for x in (-q, q) for y in (-q, q) for z in (-q, q)]
    sides = [(0, 1, 3, 2), (2, 3, 7, 6), (6, 7, 5, 4), (4, 5, 1, 0), (2, 6, 4, 0), (7, 3, 1, 5)]
    mesh = bpy.data.meshes.new("Box")
    mesh.from_pydata(corners, [], sides)
    for polygon, material in zip(mesh.polygons, (1, 2, 0, 0, 0, 0)):
        polygon.material_index = material
    return mesh


def _face(bpy, color):
    material = bpy.data.materials.new("Face")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"].inputs
    shader["Base Color"].default_value = shader["Emission Color"].default_value = (*color, 1.0)
    shader["Emission Strength"].default_value, shader["Alpha"].default_value = 1.0, FACE_ALPHA
    return material


def _wire(bpy, color):
    material = bpy.data.materials.new("Edge")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (*color, 1.0)
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    return material
