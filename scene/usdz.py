"""Parts as USDZ: a scene in USD's text form and its textures in one archive, for AR viewers and DCC tools.

World frame of the file: Y up, meters, as in `gltf`. The material is UsdPreviewSurface. Source: the specification of
USDZ (OpenUSD): stored without compression, every file at a multiple of 64 bytes, the scene first.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .gltf import GENERATOR, LIMIT, Material, Part, encode_image, pack_orm

ALIGNED = 64  # bytes
PADDING = 0x1986  # the field of an archive's header that holds nothing but room
ROWS = 1 << 16  # numbers turned into text at once


def encode_usdz(parts: Sequence[Part]) -> bytes:
    """The bytes of a USDZ file with some parts, Y up, meters.

    Textures are PNG: base color with alpha, normals, and one for occlusion, roughness and metallic. Colors of vertices
    are shown where there is no base color texture; USD cannot multiply the two. Raises InputError for no parts and for
    more than 4 GiB.
    """
    if not parts:
        raise InputError("There is no mesh to write.")
    pictures: dict[str, bytes] = {}
    names: dict[str, int] = {}
    text = io.StringIO()
    text.write(
        f'#usda 1.0\n(\n    customLayerData = {{\n        string creator = "{GENERATOR}"\n    }}\n'
        '    defaultPrim = "Root"\n    metersPerUnit = 1\n    upAxis = "Y"\n)\n\n'
        'def Xform "Root" (\n    kind = "component"\n)\n{\n'
    )
    for part in parts:
        name = _name(part.name, names)
        text.write(f'    def Xform "{name}"\n    {{\n')
        _mesh(text.write, part, f"/Root/{name}/Material")
        _material(text.write, part, f"/Root/{name}/Material", lambda kind, data, name=name: _keep(
            pictures, f"textures/{name}_{kind}.png", data))  # fmt: skip
        text.write("    }\n")
    text.write("}\n")
    return _archive({"scene.usda": text.getvalue().encode(), **pictures})


def _keep(pictures: dict[str, bytes], name: str, data: bytes) -> str:
    pictures[name] = data
    return name


def _name(text: str, taken: dict[str, int]) -> str:
    """A name that USD accepts, and that no other part has."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII) or "Mesh"
    name = "_" + name if name[0].isdigit() else name
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"


def _mesh(write: Callable[[str], object], part: Part, material: str) -> None:
    low, high = part.vertices.float().amin(0).tolist(), part.vertices.float().amax(0).tolist()
    write('        def Mesh "Mesh" (\n            prepend apiSchemas = ["MaterialBindingAPI"]\n        )\n        {\n')
    write(f"            uniform bool doubleSided = {int(part.material.double_sided)}\n")
    write(f"            float3[] extent = [{_tuple(low)}, {_tuple(high)}]\n")
    _array(write, "int[] faceVertexCounts", torch.full((len(part.faces), 1), 3), "%d")
    _array(write, "int[] faceVertexIndices", part.faces.reshape(-1, 1), "%d")
    write(f"            rel material:binding = <{material}>\n")
    if part.normals is not None:
        _array(write, "normal3f[] normals", part.normals, "%.6g", "vertex")
    _array(write, "point3f[] points", part.vertices, "%.9g")
    if part.colors is not None:
        _array(write, "color3f[] primvars:displayColor", part.colors[:, :3].clamp(0, 1), "%.5g", "vertex")
    if part.uv is not None:  # USD counts rows of a picture from below
        uv = torch.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
        _array(write, "texCoord2f[] primvars:st", uv, "%.9g", "vertex")
    write('            uniform token subdivisionScheme = "none"\n        }\n\n')


def _array(write: Callable[[str], object], name: str, rows: Tensor, form: str, spread: str | None = None) -> None:
    """An attribute from rows [N, C]: numbers for C = 1, else tuples."""
    values = rows.detach().cpu()
    values = values.float().numpy() if values.is_floating_point() else values.long().numpy()
    one = form if values.shape[1] == 1 else "(" + ", ".join([form] * values.shape[1]) + ")"
    write(f"            {name} = [")
    for start in range(0, len(values), ROWS):
        part = np.ascontiguousarray(values[start : start + ROWS])
        write((", " if start else "") + ", ".join([one] * len(part)) % tuple(part.reshape(-1).tolist()))
    write("]" + (f' (\n                interpolation = "{spread}"\n            )' if spread else "") + "\n")


def _tuple(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{float(v):.9g}" for v in values) + ")"


def _material(write: Callable[[str], object], part: Part, path: str, keep: Callable[[str, bytes], str]) -> None:
    material = part.material
    inputs, shaders = _surface(material, part.uv is not None, path, keep)
    if material.base_color is None and part.colors is not None:
        inputs["color3f inputs:diffuseColor.connect"] = f"<{path}/Colors.outputs:result>"
        shaders.append(_shader("Colors", "UsdPrimvarReader_float3", {
            "string inputs:varname": '"displayColor"', "float3 outputs:result": None}))  # fmt: skip
    inputs["token outputs:surface"] = None
    write('        def Material "Material"\n        {\n')
    write(f"            token outputs:surface.connect = <{path}/Surface.outputs:surface>\n\n")
    write("\n".join([_shader("Surface", "UsdPreviewSurface", inputs), *shaders]))
    write("        }\n")


def _surface(material: Material, has_uv: bool, path: str, keep: Callable[[str, bytes], str]):
    """Inputs of the surface, and the shaders they are connected to."""
    red, green, blue, alpha = (float(v) for v in material.base_color_factor)
    inputs: dict[str, str | None] = {
        "color3f inputs:diffuseColor": _tuple((red, green, blue)),
        "float inputs:metallic": f"{material.metallic_factor:.6g}",
        "float inputs:roughness": f"{material.roughness_factor:.6g}",
    }
    if material.alpha_mode != "OPAQUE":
        inputs["float inputs:opacity"] = f"{alpha:.6g}"
    if material.alpha_mode == "MASK":
        inputs["float inputs:opacityThreshold"] = f"{material.alpha_cutoff:.6g}"
    if any(material.emissive_factor):
        inputs["color3f inputs:emissiveColor"] = _tuple(material.emissive_factor)
    if not (has_uv and material.textures):
        return inputs, []
    shaders = [_shader("Coordinates", "UsdPrimvarReader_float2", {
        "string inputs:varname": '"st"', "float2 outputs:result": None})]  # fmt: skip

    def connect(name: str, given: Tensor, space: str, links: dict[str, str], **more: str) -> None:
        shader = {
            "asset inputs:file": f"@{keep(name, encode_image(given))}@",
            "token inputs:sourceColorSpace": f'"{space}"',
            "float2 inputs:st.connect": f"<{path}/Coordinates.outputs:result>",
            "token inputs:wrapS": '"clamp"', "token inputs:wrapT": '"clamp"',
            **{f"float4 inputs:{key}": value for key, value in more.items()},
        }  # fmt: skip
        for wanted, output in links.items():
            kind, field = wanted.split()
            inputs.pop(f"{kind} inputs:{field}", None)
            inputs[f"{kind} inputs:{field}.connect"] = f"<{path}/{name}.outputs:{output}>"
            shader[f"{'float3' if output == 'rgb' else 'float'} outputs:{output}"] = None
        shaders.append(_shader(name, "UsdUVTexture", shader))

    if material.base_color is not None:
        shown = material.base_color
        links = {"color3f diffuseColor": "rgb"}
        if material.alpha_mode == "OPAQUE":
            shown = shown[..., :3]
        elif shown.shape[2] == 4:
            links["float opacity"] = "a"
        connect("BaseColor", shown, "sRGB", links, scale=_tuple((red, green, blue, alpha)))
    packed = pack_orm(material)
    if packed is not None:
        links = {} if material.occlusion is None else {"float occlusion": "r"}
        if material.metallic_roughness is not None:
            links |= {"float roughness": "g", "float metallic": "b"}
        scale = (1.0, material.roughness_factor, material.metallic_factor, 1.0)
        connect("OcclusionRoughnessMetallic", packed, "raw", links, scale=_tuple(scale))
    if material.normal is not None:
        connect("Normal", material.normal, "raw", {"normal3f normal": "rgb"}, scale="(2, 2, 2, 1)",
                bias="(-1, -1, -1, 0)")  # fmt: skip
    if material.emissive is not None:
        connect("Emission", material.emissive, "sRGB", {"color3f emissiveColor": "rgb"},
                scale=_tuple((*material.emissive_factor, 1.0)))  # fmt: skip
    return inputs, shaders


def _shader(name: str, kind: str, fields: dict[str, str | None]) -> str:
    lines = [f'            def Shader "{name}"', "            {", f'                uniform token info:id = "{kind}"']
    lines += [f"                {field}" + ("" if value is None else f" = {value}") for field, value in fields.items()]
    return "\n".join([*lines, "            }", ""])


def _archive(files: dict[str, bytes]) -> bytes:
    """Files in one archive, as they are, each beginning at a multiple of 64 bytes."""
    stream = io.BytesIO()
    if sum(map(len, files.values())) > LIMIT - (1 << 16):
        raise InputError("The file would have more than 4 GiB; use fewer faces or smaller textures.")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            room = -(stream.tell() + 30 + len(name.encode()) + 4) % ALIGNED
            entry.extra = struct.pack("<HH", PADDING, room) + b"\0" * room
            archive.writestr(entry, data)
    return stream.getvalue()
