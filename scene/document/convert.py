"""Scene files of other programs by the ending of their name, and boxes as a table (CSV)."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from ..colmap import has_colmap
from ..errors import InputError
from ..files import read_bytes
from .camera_formats import camera_from_load3d, cameras_from_colmap, cameras_from_transforms, cameras_to_transforms
from .gltf import read_glb, write_glb
from .model import Document
from .problems import refuse
from .saved_pickle import read_saved_scene, write_saved_scene
from .text import document_to_text, load_json, new_document, parse_document, read_document

MAX_BYTES = 64 << 20
READABLE = (".json", ".pkl", ".glb", ".gltf", ".csv")
WRITABLE = (".json", ".pkl", ".glb", ".csv")
COLUMNS = ("id", "prompt", "x", "y", "z", "w", "d", "h", "yaw")


def read_scene_file(path: str | Path) -> tuple[Document, list[str]]:
    """A document from a file, and remarks; raises InputError naming the file."""
    return read_scene_bytes(Path(path).name, read_bytes(path, MAX_BYTES, f"a scene ({', '.join(READABLE)})"))


def colmap_place(folder: str | Path) -> Path | None:
    """Where in a folder a COLMAP model lies: there, in `sparse/0` or in `sparse`; None where there is none."""
    folder = Path(folder)
    return next(filter(has_colmap, (folder, folder / "sparse" / "0", folder / "sparse")), None)


def read_colmap_scene(folder: str | Path, align: dict | None = None) -> tuple[Document, list[str]]:
    """A document with the cameras of a COLMAP folder, and remarks; options and errors as `cameras_from_colmap`.

    folder: that of the model, or of the capture with the model in `sparse/0` or `sparse`.
    """
    cameras, done = cameras_from_colmap(colmap_place(folder) or folder, align)
    note = done or "The world is as COLMAP left it: its up and its scale are arbitrary."
    return new_document(cameras=tuple(cameras), active_camera=cameras[0].id), [note]


def alignment_options(up: str = "", scale: float | None = None, camera_height: float | None = None) -> dict:
    """Options of `read_colmap_scene` from what a user wrote; empty or None: found. Raises InputError."""
    options: dict = {"scale": scale}
    if camera_height is not None:
        options["camera_height"] = camera_height
    if up.strip():
        try:
            options["up"] = tuple(float(part) for part in up.split(","))
        except ValueError:
            options["up"] = ()
        if len(options["up"]) != 3 or not any(options["up"]) or not all(abs(part) < 1e9 for part in options["up"]):
            raise InputError(f"`up` is {up!r}; give a direction as three numbers with commas, for example 0,-1,0.")
    if scale is not None and not 0 < scale < 1e9:
        raise InputError(f"`scale` is {scale:g}; give meters per unit of the model, above 0.")
    return options


def read_scene_bytes(name: str, data: bytes) -> tuple[Document, list[str]]:
    """A document from the content of a file called `name`, and remarks.

    .json: a scene, a legacy scene, transforms.json or a LOAD3D_CAMERA; .pkl: SeeThrough3D's saved scene, read without
    executing anything; .glb, .gltf: boxes around meshes; .csv: a table of boxes. Raises SceneError.
    """
    suffix = Path(name).suffix.lower()
    if suffix == ".pkl":
        document = read_saved_scene(data)
        return document, list(document.provenance.notes)
    if suffix in (".glb", ".gltf"):
        return read_glb(data)
    if suffix == ".csv":
        return read_table(data), []
    if suffix == ".zip":
        raise refuse("E154", "", "Archives are not opened; unpack it, and give the folder to `sightline layout`.")
    if suffix != ".json":
        endings = ", ".join(READABLE)
        raise refuse("E154", "", f"Files ending in {suffix or 'nothing'} are no scenes; give one of {endings}.")
    value = load_json(data)
    if "format" not in value and isinstance(value.get("frames"), list):
        cameras = tuple(cameras_from_transforms(value))
        return new_document(cameras=cameras, active_camera=cameras[0].id), []
    if "format" not in value and "position" in value and ("target" in value or "quaternion" in value):
        camera = camera_from_load3d(value)
        return new_document(cameras=(camera,), active_camera=camera.id), []
    document, problems = read_document(value)
    return document, [problem.text for problem in problems]


def write_scene_bytes(document: Document, suffix: str) -> bytes:
    """The content of a scene file of the kind `suffix` (.json, .pkl, .glb, .csv)."""
    if suffix == ".json":
        return (document_to_text(document) + "\n").encode("utf-8")
    if suffix == ".pkl":
        return write_saved_scene(document)
    if suffix == ".glb":
        return write_glb(document)
    if suffix == ".csv":
        return write_table(document)
    raise refuse(
        "E154", "", f"A scene cannot be written as {suffix or 'a file without ending'}; use {', '.join(WRITABLE)}."
    )


def transforms_text(document: Document) -> str:
    """transforms.json of a document's cameras."""
    return json.dumps(cameras_to_transforms(document), indent=1) + "\n"


def write_table(document: Document) -> bytes:
    """The boxes as CSV with the columns id, prompt, x, y, z, w, d, h, yaw; UTF-8."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in document.objects:
        # a spreadsheet must not take words for a formula
        prompt = f"'{one.prompt}" if one.prompt[:1] in "=+-@" else one.prompt
        rows.writerow([one.id, prompt, *(f"{v:.6g}" for v in (*one.position, *one.size, one.yaw_deg))])
    return text.getvalue().encode("utf-8")


def read_table(data: bytes, document: Document | None = None) -> Document:
    """A document with the boxes of a CSV table; what it does not say is kept from `document`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refuse("E155", "", "The table is not UTF-8 text; save it as CSV UTF-8.") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in ("prompt", "x", "y", "z", "w", "d", "h") if name not in (rows.fieldnames or ())]
    if missing:
        raise refuse("E155", "", f"The table has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
    base = new_document() if document is None else document
    plain = json.loads(document_to_text(base))
    known = {one["id"]: one for one in plain["objects"]}
    objects = []
    try:
        for number, row in enumerate(rows, 1):
            values = {}
            for name in COLUMNS[2:]:
                try:
                    values[name] = float((row.get(name) or "0").replace(",", "."))
                except ValueError:
                    raise refuse("E155", "", f"Row {number} of the table: {name} is not a number.") from None
            prompt = (row["prompt"] or "").strip()
            prompt = prompt[1:] if prompt[:1] == "'" and prompt[1:2] in tuple("=+-@") else prompt
            changed = {
                "id": row.get("id") or f"obj{number}", "prompt": prompt, "position": [values[k] for k in "xyz"],
                "size": [values[k] for k in "wdh"], "yaw_deg": values["yaw"],
            }  # fmt: skip
            objects.append({**known.get(changed["id"], {}), **changed})
    except csv.Error:
        raise refuse("E155", "", "The table is damaged; save it as CSV UTF-8.") from None
    return parse_document({**plain, "objects": objects})
