"""The scene document, version 1: boxes with descriptions, cameras, words and output settings, as frozen dataclasses.

World: right-handed, Z up, floor at z = 0; +X towards the viewer and +Y to the right of the default camera's picture.
Lengths are scene units, angles degrees, quaternions (w, x, y, z), pixels have (0, 0) top left. Camera axes: columns
right, up, back. Source: the scene document's specification, parts A2 and A3; the table is in docs/layout-scene.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .fields import Anything, Choice, Flag, Ident, Kind, Many, Maybe, Number, Part, Text, entry, extra, vector

FORMAT = "sightline.scene"
VERSION = 1
MAX_OBJECTS = 128
MAX_CAMERAS = 256
MAX_TEXT = 256 * 1024  # bytes of JSON
MAX_SEED = 2**53 - 1  # what a browser can hold exactly

_UNIT = Number(-1e6, 1e6)
_YAW = Number(-180.0, 180.0, wrap=True)
_ID = Ident()


def _matrix(rows: int) -> Kind:
    return Many(vector(rows, -1e9, 1e9), rows, rows)


@dataclass(frozen=True)
class FileRef:
    """A file in ComfyUI's input, output or temp folder; never an absolute path or an address."""

    kind: str = entry(Choice(("input", "output", "temp")), "input", True)
    name: str = entry(Text(255, least=1), "file", True)
    subfolder: str = entry(Text(255), "")
    sha256: str | None = entry(Maybe(Text(64, pattern="^[0-9a-f]{64}$")), None)
    w: int | None = entry(Maybe(Number(1, 65536, whole=True)), None)
    h: int | None = entry(Maybe(Number(1, 65536, whole=True)), None)
    extra: dict = extra()


_FILE = Maybe(Part(FileRef))


@dataclass(frozen=True)
class Units:
    """How long one scene unit is; null = unknown."""

    metres_per_unit: float | None = entry(Maybe(Number(0.0, 1e6, above=True)), None, label="metres per unit")
    extra: dict = extra()


@dataclass(frozen=True)
class Orbit:
    """A camera on a sphere around a target, without roll."""

    target: tuple[float, ...] = entry(vector(3, -1e6, 1e6, ("target x", "target y", "target z")), (0.0, 0.0, 0.0), True)
    azimuth_deg: float = entry(_YAW, 0.0, True, "camera azimuth")
    elevation_deg: float = entry(Number(-89.0, 90.0), 20.0, True, "camera elevation")
    distance: float = entry(Number(0.01, 1000.0), 6.0, True, "camera distance")
    extra: dict = extra()


@dataclass(frozen=True)
class Free:
    """A camera of any pose: position and camera -> world quaternion (w, x, y, z)."""

    position: tuple[float, ...] = entry(vector(3, -1e6, 1e6), (6.0, 0.0, 0.0), True, "camera position")
    rotation: tuple[float, ...] = entry(vector(4, -1.0001, 1.0001), (0.5, 0.5, 0.5, 0.5), True, "camera rotation")
    extra: dict = extra()


@dataclass(frozen=True)
class Distortion:
    """Lens distortion of a photo, kept for COLMAP."""

    model: str = entry(Choice(("none", "opencv")), "none", True)
    k: tuple[float, ...] = entry(Many(_UNIT, 0, 8), (), label="distortion numbers")
    extra: dict = extra()


@dataclass(frozen=True)
class SceneCamera:
    """One camera: an orbit or a free pose, a lens, and perhaps the photo it took."""

    id: str = entry(_ID, "cam1", True)
    name: str = entry(Text(64), "Camera")
    mode: str = entry(Choice(("orbit", "free")), "orbit")
    orbit: Orbit | None = entry(Maybe(Part(Orbit)), None)
    free: Free | None = entry(Maybe(Part(Free)), None)
    lens_mm: float = entry(Number(1.0, 2000.0), 50.0, label="lens")
    sensor_mm: float = entry(Number(1.0, 200.0), 36.0, label="sensor")
    shift: tuple[float, ...] = entry(vector(2, -10.0, 10.0), (0.0, 0.0), label="lens shift")
    near: float = entry(Number(0.0, 1e6, above=True), 0.1)
    far: float = entry(Number(0.0, 1e9, above=True), 1000.0)
    size: tuple[int, ...] | None = entry(Maybe(Many(Number(1, 65536, whole=True), 2, 2)), None, label="picture size")
    image: FileRef | None = entry(_FILE, None)
    mask: FileRef | None = entry(_FILE, None)
    depth: FileRef | None = entry(_FILE, None)
    roles: tuple[str, ...] = entry(Many(Choice(("control", "view", "orbit", "export")), 0, 4, distinct=True), ())
    distortion: Distortion = entry(Part(Distortion), Distortion)
    locked: bool = entry(Flag(), False)
    extra: dict = extra()

    @staticmethod
    def subject(value: dict, pointer: str) -> str:
        """Whom a sentence about this camera names."""
        name = value.get("name") or value.get("id")
        return f"Camera ‘{name}’" if isinstance(name, str) else "The camera"


@dataclass(frozen=True)
class Use:
    """What an object takes part in: the control picture, the prompt, 3D generation."""

    control: bool = entry(Flag(), True)
    prompt: bool = entry(Flag(), True)
    generate3d: bool = entry(Flag(), True)
    extra: dict = extra()


@dataclass(frozen=True)
class Asset:
    """The mesh or splat that fills a box, and how."""

    file: FileRef | None = entry(_FILE, None, True)
    frame: str = entry(Choice(("gltf", "z_up", "camera")), "gltf")
    fit: str = entry(Choice(("contain", "cover", "stretch", "height", "none")), "contain")
    align: str = entry(Choice(("bottom", "center")), "bottom")
    yaw_deg: float = entry(_YAW, 0.0, label="asset turn")
    offset: tuple[float, ...] = entry(vector(3, -1e6, 1e6), (0.0, 0.0, 0.0), label="asset offset")
    scale: float = entry(Number(0.0, 1e6, above=True), 1.0, label="asset scale")
    bounds: tuple | None = entry(Maybe(Many(vector(3, -1e9, 1e9), 2, 2)), None, label="asset bounds")
    placement: tuple | None = entry(Maybe(_matrix(4)), None, label="asset placement")
    extra: dict = extra()


@dataclass(frozen=True)
class Gen:
    """How to make an object's asset."""

    system: str = entry(Choice(("none", "pixal3d", "trellis2", "sparsegen", "relaxflow")), "none")
    seed: int | None = entry(Maybe(Number(0, MAX_SEED, whole=True)), None)
    prior_prompt: str | None = entry(Maybe(Text(400, trim=True)), None)
    complete: bool = entry(Flag(), True)
    complete_above: float = entry(Number(0.0, 1.0), 0.05)
    fov_deg: float | None = entry(Maybe(Number(0.1, 179.0)), None, label="field of view")
    options: dict = entry(Anything(), dict)
    extra: dict = extra()


@dataclass(frozen=True)
class SceneObject:
    """One box on or above the floor, with the words for what fills it."""

    id: str = entry(_ID, "obj1", True)
    name: str = entry(Text(80, trim=True), "")
    prompt: str = entry(Text(400, trim=True), "object", True, "description")
    preset: str | None = entry(Maybe(Text(64)), None)
    position: tuple[float, ...] = entry(
        vector(3, -1000.0, 1000.0, ("position x", "position y", "position z")), (0.0, 0.0, 0.0), True
    )
    size: tuple[float, ...] = entry(
        vector(3, 0.001, 1000.0, ("width", "depth", "height")), (1.0, 1.0, 1.0), True
    )  # fmt: skip
    yaw_deg: float = entry(_YAW, 0.0, label="turn (yaw)")
    tilt: tuple[float, ...] = entry(vector(2, -180.0, 180.0, ("pitch", "roll")), (0.0, 0.0))
    color: str | None = entry(Maybe(Text(7, pattern="^#[0-9a-fA-F]{6}$")), None)
    visible: bool = entry(Flag(), True)
    locked: bool = entry(Flag(), False)
    group: str | None = entry(Maybe(_ID), None)
    use: Use = entry(Part(Use), Use)
    image: FileRef | None = entry(_FILE, None)
    mask: FileRef | None = entry(_FILE, None)
    amodal_mask: FileRef | None = entry(_FILE, None)
    asset: Asset | None = entry(Maybe(Part(Asset)), None)
    gen: Gen = entry(Part(Gen), Gen)
    extra: dict = extra()

    @property
    def label(self) -> str:
        """What the object is called in lists and sentences."""
        return self.name or self.prompt or self.preset or self.id

    @property
    def in_picture(self) -> bool:
        """Whether the control picture shows it."""
        return self.visible and self.use.control

    @staticmethod
    def subject(value: dict, pointer: str) -> str:
        """Whom a sentence about this object names: its name, else its words, else its number."""
        for key in ("name", "prompt", "preset"):
            if isinstance(value.get(key), str) and value[key].strip():
                return f"‘{value[key].strip()[:40]}’"
        return f"Object {int(pointer.rsplit('/', 1)[1]) + 1}"


@dataclass(frozen=True)
class Group:
    """A folder in the list of objects."""

    id: str = entry(_ID, "group1", True)
    name: str = entry(Text(80), "Group")
    collapsed: bool = entry(Flag(), False)
    extra: dict = extra()


@dataclass(frozen=True)
class ScenePrompt:
    """The words around the objects' descriptions."""

    background: str = entry(Text(2000, trim=True), "", label="background text")
    prefix: str = entry(Text(400), "a photo of ", label="text before the objects")
    joiner: str = entry(Text(80), " and ", label="text between objects")
    suffix: str = entry(Text(2000), "", label="text after the background")
    negative: str = entry(Text(2000), "", label="negative text")
    extra: dict = extra()


@dataclass(frozen=True)
class Render:
    """How the control picture is drawn."""

    lights_seed: int | None = entry(Maybe(Number(0, 2**32 - 1, whole=True)), None, label="seed of the lights")
    light_positions: tuple | None = entry(Maybe(Many(vector(3, -1e4, 1e4), 1, 16)), None, label="light positions")
    max_crossings: int = entry(Number(0, 1024, whole=True), 8, label="faces on a ray")
    match_reference_jpeg: bool = entry(Flag(), False)
    extra: dict = extra()


@dataclass(frozen=True)
class Output:
    """The picture to be made."""

    size: tuple[int, ...] = entry(
        Many(Number(256, 4096, whole=True), 2, 2, names=("picture width", "picture height")), (1024, 1024), True,
        "picture size",
    )  # fmt: skip
    seed: int = entry(Number(0, MAX_SEED, whole=True), 42)
    steps: int = entry(Number(1, 200, whole=True), 25)
    guidance: float = entry(Number(0.0, 30.0), 3.5)
    lora: str | None = entry(Maybe(Text(255)), None)
    lora_strength: float = entry(Number(-10.0, 10.0), 1.0, label="LoRA strength")
    control_size: int = entry(Number(64, 4096, whole=True), 512, label="control picture size")
    render: Render = entry(Part(Render), Render)
    extra: dict = extra()


@dataclass(frozen=True)
class Grid:
    """The floor grid of the editor."""

    step: float = entry(Number(0.0, 1e6, above=True), 1.0)
    size: float = entry(Number(0.0, 1e6, above=True), 20.0)
    extra: dict = extra()


@dataclass(frozen=True)
class Chunk:
    """How a large scene is cut for generation."""

    size: float = entry(Number(0.0, 1e6, above=True), 1.0, True)
    overlap: float = entry(Number(0.0, 1e6), 0.0, True)
    extra: dict = extra()


@dataclass(frozen=True)
class Environment:
    """Floor, room bounds and grid."""

    floor: bool = entry(Flag(), True)
    bounds: tuple | None = entry(Maybe(Many(vector(3, -1e6, 1e6), 2, 2)), None, label="room bounds")
    chunk: Chunk | None = entry(Maybe(Part(Chunk)), None)
    grid: Grid = entry(Part(Grid), Grid)
    extra: dict = extra()


@dataclass(frozen=True)
class Provenance:
    """Where the document came from, and what was changed on the way."""

    source: str = entry(Text(120), "")
    file: str = entry(Text(255), "")
    notes: tuple[str, ...] = entry(Many(Text(1000), 0, 200), ())
    extra: dict = extra()


@dataclass(frozen=True)
class Document:
    """A scene: cameras, boxes with words, and what picture to make of them."""

    format: str = entry(Choice((FORMAT,)), FORMAT, "always")
    version: int = entry(Number(1, VERSION, whole=True), VERSION, "always")
    id: str = entry(_ID, "", True)
    rev: int = entry(Number(0, MAX_SEED, whole=True), 0, label="revision")
    title: str = entry(Text(120), "")
    generator: str = entry(Text(80), "")
    units: Units = entry(Part(Units), Units)
    cameras: tuple[SceneCamera, ...] = entry(
        Many(Part(SceneCamera), 1, MAX_CAMERAS, "E112"), (SceneCamera(roles=("control",)),), True
    )
    active_camera: str = entry(_ID, "cam1", True)
    objects: tuple[SceneObject, ...] = entry(Many(Part(SceneObject), 0, MAX_OBJECTS, "E112"), (), True)
    groups: tuple[Group, ...] = entry(Many(Part(Group), 0, 1000, "E112"), ())
    prompt: ScenePrompt = entry(Part(ScenePrompt), ScenePrompt)
    output: Output = entry(Part(Output), Output)
    environment: Environment = entry(Part(Environment), Environment)
    provenance: Provenance = entry(Part(Provenance), Provenance)
    ext: dict = entry(Anything(), dict)
    extra: dict = extra()

    @property
    def camera(self) -> SceneCamera:
        """The active camera."""
        return next((c for c in self.cameras if c.id == self.active_camera), self.cameras[0])

    @property
    def picture_objects(self) -> tuple[SceneObject, ...]:
        """The objects the control picture shows, in document order."""
        return tuple(o for o in self.objects if o.in_picture)

    @property
    def prompt_objects(self) -> tuple[SceneObject, ...]:
        """The objects that appear in the prompt, hence also the rows of the masks, in document order."""
        return tuple(o for o in self.picture_objects if o.use.prompt)

    def with_note(self, note: str) -> Document:
        """The same document with one more line in `provenance.notes`."""
        notes = (*self.provenance.notes, note[:1000])[-200:]
        return self.replace(provenance=dataclasses.replace(self.provenance, notes=notes))

    def replace(self, **changes: Any) -> Document:
        """The same document with some fields changed."""
        return dataclasses.replace(self, **changes)
