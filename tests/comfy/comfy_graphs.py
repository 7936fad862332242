"""Graphs for the host tests, in API format."""

import asyncio
import io
import json
import uuid
from pathlib import Path

import pytest
from PIL import Image

from sightline.models.sparsegen import SparseGenConfig

ROOT = Path(__file__).resolve().parents[2]
SMALL = SparseGenConfig(
    embed_dims=32, depth_num=8, num_query=24, num_gs_per_query=2, num_encoder_layers=1, num_decoder_layers=1,
    num_heads=2, ffn_dims=64, head_sets=1, vit_dims=32, vit_depth=1, vit_heads=2, vit_mlp_dims=64, vit_grid=4,
    patch_size=8, image_size=32, input_size=32, ray_convention="centered", align_first_view=True,
)  # fmt: skip
RANDOM = "random.safetensors"


def api_workflow(name: str) -> dict:
    """A shipped workflow in API format."""
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def nodes_of(workflow: dict, kind: str) -> list[dict]:
    return [node for node in workflow.values() if node["class_type"] == kind]


def small(workflow: dict, weights: str | None = RANDOM, prefix: str = "test") -> dict:
    """The workflow with few and small pictures; weights: a file instead of the embedded ones (None leaves them)."""
    for node in nodes_of(workflow, "SightlineSplatTurntable"):
        node["inputs"].update(frames=4, width=64, height=64)
    for node in nodes_of(workflow, "SightlineSparseGenLoader"):
        node["inputs"].update({"weights": weights} if weights else {})
    for node in workflow.values():
        if "filename_prefix" in node["inputs"]:
            node["inputs"]["filename_prefix"] = f"{prefix}/{node['inputs']['filename_prefix'].split('/')[-1]}"
    return workflow


def views(image=("1", 0), **inputs) -> dict:
    """A graph from a picture to a saved splat; nodes 1 picture, 2 views, 3 loader, 4 sampler, 5 save."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sparsegen_chair.png"}},
        "2": {
            "class_type": "SightlineViewSet",
            "inputs": {"images.image0": list(image), "azimuths": "0", "elevations": "20", "fit": "pad", "radius": 1.3,
                       "fov": 51.99} | inputs,
        },
        "3": {"class_type": "SightlineSparseGenLoader", "inputs": {"weights": RANDOM}},
        "4": {
            "class_type": "SightlineSparseQuerySplatSampler",
            "inputs": {"model": ["3", 0], "views": ["2", 0], "steps": 1, "seed": 0, "noise": 1.0},
        },
        "5": {
            "class_type": "SightlineSaveSplat",
            "inputs": {"splat": ["4", 0], "filename_prefix": "graph/splat", "format": "ply"},
        },
    }  # fmt: skip


def editor_workflow(name: str, schemas: dict) -> dict:
    """A shipped editor workflow as the editor would send it: API format, made with the server's node schemas."""
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    links = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] in ("Note", "MarkdownNote"):
            continue
        prompt[str(node["id"])] = api_node(node, schemas, links)
    return prompt


def api_node(node: dict, schemas: dict, links: dict) -> dict:
    """One node of the editor in API format; links: {link id: [node id, output]}."""
    schema = schemas[node["type"]]["input"]
    options = {**schema.get("required", {}), **schema.get("optional", {})}
    values, inputs = list(node.get("widgets_values") or ()), {}
    order = list(options)  # values come in the order of the schema, those of a choice right after it
    for entry in sorted(node["inputs"], key=lambda e: (order.index(e["name"].split(".")[0]), "." in e["name"])):
        if "widget" in entry:
            value = values.pop(0)
            if [*options.get(entry["name"], [None]), {}][1].get("control_after_generate"):  # core's may have no options
                values.pop(0)  # "fixed", "randomize", ...: the editor's own
            inputs[entry["name"]] = value
        if entry.get("link") is not None:
            inputs[entry["name"]] = links[entry["link"]]
    assert not values, f"node {node['id']} ({node['type']}) has {len(values)} values too many"
    return {"class_type": node["type"], "inputs": inputs}


def blueprint(name: str, schemas: dict, given: dict) -> tuple[dict, dict]:
    """A shipped blueprint as the editor would expand it, and its outputs {name: [node id, output]}.

    given: {input name: value or [node id, output]}; inputs that are left out keep what the blueprint says.
    """
    graph = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))
    (outer,), (inner,) = graph["nodes"], graph["definitions"]["subgraphs"]
    assert outer["type"] == inner["id"] and {node["name"] for node in outer["inputs"]} >= set(given)
    links = {link["id"]: [f"sub{link['origin_id']}", link["origin_slot"]] for link in inner["links"]}
    nodes = {node["id"]: node for node in inner["nodes"]}
    for slot, entry in enumerate(inner["inputs"]):
        for link in (link for link in inner["links"] if link["origin_id"] == -10 and link["origin_slot"] == slot):
            links[link["id"]] = given.get(entry["name"])
            target = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert target["link"] == link["id"] and target["type"] == entry["type"] == link["type"]
            if entry["name"] not in given:
                target["link"] = None
    prompt = {f"sub{node['id']}": api_node(node, schemas, links) for node in inner["nodes"]}
    outputs = {}
    for link in (link for link in inner["links"] if link["target_id"] == -20):
        outputs[inner["outputs"][link["target_slot"]]["name"]] = links[link["id"]]
    assert set(outputs) == {output["name"] for output in outer["outputs"]}
    return prompt, outputs


def previews(server, workflow: dict) -> list[Image.Image]:
    """The pictures that the host sends over its WebSocket while the workflow runs."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp comes with ComfyUI's requirements")

    async def binary() -> list[bytes]:
        client, found = uuid.uuid4().hex, []
        address = f"{server.url}/ws?clientId={client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address) as stream:
            await asyncio.to_thread(server.queue, workflow, client)
            async for message in stream:
                if message.type == aiohttp.WSMsgType.BINARY:
                    found.append(message.data)
                elif message.type == aiohttp.WSMsgType.TEXT:
                    kind = json.loads(message.data)["type"]
                    assert kind != "execution_error", message.data
                    if kind == "execution_success":
                        return found

    sent = [data for data in asyncio.run(binary()) if b"\xff\xd8\xff" in data]
    return [Image.open(io.BytesIO(data[data.index(b"\xff\xd8\xff") :])) for data in sent]
