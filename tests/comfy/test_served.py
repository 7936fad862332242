"""What the server serves of this pack: nodes, help pages, locales, templates; and what it says at start."""

import json
import re
import urllib.error
from pathlib import Path

import pytest

from sightline.cli import headless

ROOT = Path(__file__).resolve().parents[2]
NODES = list(json.loads((ROOT / "tests" / "nodes" / "frozen_widgets.json").read_text(encoding="utf-8")))
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
# these need weights that nobody here has: a picture would show something else
WITHOUT_PICTURE = ["pixal3d", "pixal3d-multiview", "genrecon-object", "relaxflow-native", "seethrough3d-tiny"]


@pytest.mark.parametrize("node", NODES)
def test_node_is_served(server, node):
    info = server.object_info(node)[node]
    assert info["python_module"] == f"custom_nodes.{headless.PACK_NAME}"
    assert info["output_tooltips"] and all(info["output_tooltips"])


@pytest.mark.parametrize("page", ["{}.md", "{}/zh.md", "{}/ja.md"])
@pytest.mark.parametrize("node", NODES)
def test_help_page_is_served(server, node, page):
    text = server.request(f"/extensions/{headless.PACK_NAME}/docs/{page.format(node)}").decode("utf-8")
    assert text.startswith("# ") and "html" not in text.lower()[:20]


def test_locales_are_merged(server):
    served = server.get("/i18n")
    for language in ("en", "zh", "ja"):
        for node in NODES:
            assert served[language]["nodeDefs"][node]["display_name"]


def test_workflows_are_offered_with_their_pictures(server):
    offered = server.get("/workflow_templates")[headless.PACK_NAME]
    assert sorted(offered) == WORKFLOWS
    for name in WORKFLOWS:
        assert json.loads(server.request(f"/api/workflow_templates/{headless.PACK_NAME}/{name}.json"))["nodes"]
        if name not in WITHOUT_PICTURE:
            assert server.request(f"/api/workflow_templates/{headless.PACK_NAME}/{name}.jpg")[:3] == b"\xff\xd8\xff"


def test_our_own_files_are_all_that_is_served(server):
    with pytest.raises(urllib.error.HTTPError):
        server.request(f"/extensions/{headless.PACK_NAME}/../nodes/host.py")


def test_start_up_is_one_line_of_ours_and_quick(server):
    log = re.sub(r"\x1b\[[0-9;]*m", "", server.log.read_text(encoding="utf-8", errors="replace"))
    ours = [line for line in log.splitlines() if "Sightline " in line]
    assert len(ours) == 1 and f"{len(NODES)} nodes" in ours[0] and "weights" in ours[0]
    assert "IMPORT FAILED" not in log


def test_weights_in_the_models_folder_are_offered(server):
    options = server.object_info("SightlineSparseGenLoader")["SightlineSparseGenLoader"]["input"]["required"]
    assert options["weights"][1]["options"][0] == "sparsegen-tiny"
    assert "random.safetensors" in options["weights"][1]["options"]


def test_self_check_reports_this_host(server):
    run = server.run({"1": {"class_type": "SightlineSelfCheck", "inputs": {}}})
    text = run.outputs["1"]["text"][0]
    assert text.startswith("sightline ") and "ComfyUI\n" in text and "accelerators" in text
    assert "1" not in server.run({"1": {"class_type": "SightlineSelfCheck", "inputs": {}}}).cached
