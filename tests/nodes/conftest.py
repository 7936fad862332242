"""What ComfyUI gets to know about the nodes."""

import pytest
from inside_comfyui import ask


@pytest.fixture(scope="session")
def described(tmp_path_factory) -> dict:
    """{node id: the host's node info and what else `describe_nodes` says}."""
    return ask("describe_nodes.py", tmp_path_factory.mktemp("base"))
