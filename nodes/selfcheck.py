"""Self Check: what this pack found on this machine, as text."""

from __future__ import annotations

from ..kernels import backends
from ..models.sparsegen.weights import EMBEDDED, EMBEDDED_PATH
from ..pipelines.selfcheck import as_text, package_version, self_check
from . import host
from .host import io


def startup_line(nodes: int) -> str:
    """The one line in the host's log at start: version, nodes, accelerators (found, not yet compared), weights."""
    accelerators = ", ".join(backends.found()) or "none"
    own = len(host.weight_files(host.SPARSEGEN_FOLDER))
    weights = EMBEDDED if EMBEDDED_PATH.is_file() else "embedded weights missing"
    if own:
        weights += f" and {own} in models/{host.SPARSEGEN_FOLDER}"
    return f"Sightline {package_version()}: {nodes} nodes; accelerators found: {accelerators}; weights: {weights}"


class SelfCheck(io.ComfyNode):
    """A report to read, or to attach to a bug report."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSelfCheck",
            display_name="Self Check",
            category=host.CATEGORY,
            description="Report what Sightline found on this machine: devices, accelerators and whether each agrees "
                        "with the plain torch code, weights, libraries. Attach it to a bug report.",
            search_aliases=["sightline info", "diagnose", "system report", "debug"],
            is_output_node=True,
            inputs=[],
            outputs=[io.String.Output(id="report", display_name="report", tooltip="The report as text.")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls):
        return host.new_every_time()

    @classmethod
    @host.one_sentence
    def execute(cls) -> io.NodeOutput:
        text = as_text(self_check() | {"host": host.about()})
        host.tell(text)
        return io.NodeOutput(text, ui=host.show_text(text))
