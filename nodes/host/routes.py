"""The editor's routes: an exact preview of a scene, and the reading of scene files. Neither touches the queue or a GPU.

Both take data in the request's body, never a path or an address, and ignore every file that a scene refers to.
"""

from __future__ import annotations

import asyncio
import functools
import io as bytes_io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ...pipelines.layout_render import LONGEST, layout_masks, picture_size, render_layout
from ...scene.document import (
    Document,
    PromptParts,
    SceneError,
    check_runnable,
    document_to_json,
    document_to_text,
    fingerprint,
    parse_document,
)
from ...scene.document.camera_formats import camera_to_load3d
from ...scene.document.convert import read_scene_bytes
from ...scene.document.geometry import canonical
from ...scene.document.merge import built_on, is_built_on
from ...scene.document.model import MAX_TEXT
from ...scene.errors import InputError
from .base import ui

MAX_FILE = 64 * 1024 * 1024
SECONDS = 60.0  # a preview that takes longer is given up
EMPTY = "The scene has no visible object. Add one with ＋."


@dataclass(frozen=True)
class Pictures:
    """What the editor's node gives: image [1, H, W, 3] in [0, 1], masks [K, H, W], words, LOAD3D_CAMERA."""

    document: Document
    image: Tensor
    masks: Tensor
    prompt: PromptParts
    camera: dict


def read_scene(text: str) -> Document:
    """The scene in the editor's text; SceneError (an InputError) says what is wrong with it."""
    if not text.strip():
        raise InputError(EMPTY)
    return parse_document(text)


def joined(text: str, linked: Document | None) -> Document:
    """The scene of a run: the text's, the connected one in its place, or the text's built on the connected one."""
    if linked is None:
        return read_scene(text)
    try:
        own = read_scene(text)
    except InputError:
        return linked
    return built_on(linked, own) if is_built_on(own) else linked


def editor_pictures(control: Tensor, linked: Document | None, backdrop: Tensor | None) -> dict:
    """UI of the editor's node: the control picture, and for the editor what is connected to it."""
    shown = dict(ui.PreviewImage(control).as_dict())
    if linked is not None:
        shown["sightline_scene_in"] = [document_to_text(linked)]
    if backdrop is not None:
        shown["sightline_backdrop"] = ui.PreviewImage(backdrop[:1]).as_dict()["images"]
    return shown


def scene_fingerprint(text: str | None) -> str:
    """Equal for scenes that give the same results; an unusable text stands for itself."""
    try:
        return fingerprint(read_scene(text or ""))
    except InputError:
        return text or ""


def pictures(document: Document) -> Pictures:
    """Control picture, masks, words and camera of a scene; SceneError where it cannot be run.

    The masks have the reference's 1024 pixels on the longer side whatever the picture's size is, since the cells that
    are made of them depend on it.
    """
    check_runnable(document)
    with torch.inference_mode(False):  # the renderer's threads are outside of the host's inference mode
        made = render_layout(document, document.output.control_size)
        home = canonical(document).document
        masks = layout_masks(home, *picture_size(document, LONGEST))
    spoken = [i for i, one in enumerate(home.picture_objects) if one.use.prompt]
    return Pictures(document, made.image.cpu(), masks[spoken].cpu().float(), made.prompt, camera_to_load3d(document))


class Newest:
    """Runs one job at a time in a thread of its own; of those that wait only the newest is run."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sightline-preview")
        self._latest = 0

    async def run(self, job: Callable[[], Any]) -> Any:
        """The job's result, or None where a newer one came before it began."""
        self._latest += 1
        ticket = self._latest
        call = functools.partial(self._unless_overtaken, ticket, job)
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._pool, call), SECONDS)

    def _unless_overtaken(self, ticket: int, job: Callable[[], Any]) -> Any:
        return job() if ticket == self._latest else None


def preview_png(document: Document) -> bytes:
    """The control picture as the node's own preview holds it, with the scene in a text chunk."""
    image = render_layout(document, document.output.control_size).image[0]
    pixels = (255.0 * image).clamp(0, 255).to(torch.uint8).cpu().numpy()
    about = PngInfo()
    about.add_itxt("sightline_scene", document_to_text(document))
    file = bytes_io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=about, compress_level=4)
    return file.getvalue()


def preview_facts(document: Document) -> dict:
    """Masks (32×32 cells by object id), the hidden share of each object, and warnings."""
    made = render_layout(document, 256)
    spoken = [one.id for one in document.prompt_objects]
    return {
        "cells": {name: made.cells[i].int().flatten().tolist() for i, name in enumerate(spoken)},
        "occlusion": dict(zip(made.ids, made.occlusion)),
        "problems": [problem.to_json() for problem in made.problems],
    }


def read_file(name: str, data: bytes) -> tuple[dict, list[str]]:
    """A scene file of another program as our JSON, and remarks. The kind is told by the name's ending."""
    document, notes = read_scene_bytes(name, data)
    return document_to_json(document), notes


def register_routes() -> None:
    """Add the editor's routes to the running server; without a server (a test of the nodes alone) nothing happens."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    from aiohttp import web

    newest = Newest()

    def refused(error: InputError, status: int = 400):
        problems = [p.to_json() for p in error.problems] if isinstance(error, SceneError) else []
        return web.json_response({"error": " ".join(str(error).split()), "problems": problems}, status=status)

    @server.routes.post("/sightline/scene/preview")
    async def preview(request):
        if (request.content_length or 0) > MAX_TEXT:
            return refused(InputError("The scene text is too large; at most 256 kB."), 413)
        body = await request.content.read(MAX_TEXT + 1)
        while len(body) <= MAX_TEXT and not request.content.at_eof():
            body += await request.content.read(MAX_TEXT + 1 - len(body))
        if len(body) > MAX_TEXT:
            return refused(InputError("The scene text is too large; at most 256 kB."), 413)
        facts = request.query.get("facts") == "1"
        try:
            document = parse_document(body)
            made = await newest.run(functools.partial(preview_facts if facts else preview_png, document))
        except InputError as error:
            return refused(error)
        except (asyncio.TimeoutError, TimeoutError):
            return refused(InputError(f"The preview took longer than {SECONDS:.0f} seconds."), 503)
        if made is None:
            return refused(InputError("A newer preview was asked for."), 409)
        if facts:
            return web.json_response(made)
        return web.Response(body=made, content_type="image/png", headers={"Cache-Control": "no-store"})

    @server.routes.post("/sightline/scene/import")
    async def read(request):
        if (request.content_length or 0) > MAX_FILE:
            return refused(InputError("The file is too large; at most 64 MB."), 413)
        form = await request.multipart()
        part = await form.next()
        if part is None or not part.filename:
            return refused(InputError("There is no file in the request."))
        data = bytearray()
        while chunk := await part.read_chunk(1 << 16):
            data += chunk
            if len(data) > MAX_FILE:
                return refused(InputError("The file is too large; at most 64 MB."), 413)
        name = Path(part.filename.replace("\\", "/")).name
        try:
            scene, notes = await asyncio.get_running_loop().run_in_executor(None, read_file, name, bytes(data))
        except InputError as error:
            return refused(error)
        return web.json_response({"scene": scene, "notes": notes})
