"""Download Weights: published weights into the host's model folders, only when asked."""

from __future__ import annotations

from ..models.download import get_all, size_text
from ..models.genrecon.weights import GENRECON
from ..models.seethrough3d.weights import RELEASE
from ..models.trellis1.weights import ALL as TRELLIS1
from ..pipelines import published
from . import host
from .host import io, scenes

SETS = {one.name: one for one in published.SETS}
FOLDERS = {RELEASE.name: "loras", GENRECON.name: scenes.GENRECON_FOLDER}  # others: models/trellis2
FOLDERS |= {one.name: host.TRELLIS1_FOLDER for one in TRELLIS1}


def about(name: str) -> str:
    """One line on a set: size, licence, what it is."""
    one = SETS[name]
    fetched, brought = ([other.name for other in part] for part in published.needs(one))
    known = sum(file.bytes or 0 for file in one.files)
    unknown = any(file.bytes is None and not file.name.endswith(".json") for file in one.files)
    size = f"at least {size_text(known)}" if unknown else size_text(known)
    if not known and one.parameters:
        size = f"about {size_text(2 * one.parameters)}"  # in half precision
    elif not known:
        size = "of a size not stated"
    needs = f" Fetched with it: {' and '.join(fetched)}." if fetched else ""
    needs += f" You bring: {' and '.join(brought)}." if brought else ""
    return f"{name}: {one.title}, {size}. Licence {one.licence}. Source: {one.source}.{needs}"


class DownloadWeights(io.ComfyNode):
    """Name of a set -> its files, fetched and checked."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineDownloadWeights",
            display_name="Download Weights",
            category=host.CATEGORY,
            description="Fetch published weights into the model folder that Load TRELLIS.2 or Pixal3D Models reads, "
                        "SeeThrough3D's into models/loras, and check them. This node alone downloads anything, and "
                        "only with the licence accepted; a transfer that broke off is continued. Files that lie in a "
                        "model folder already are used.",
            search_aliases=["fetch weights", "pixal3d weights", "trellis2 weights", "model download", "hugging face",
                            "seethrough3d weights"],
            inputs=[
                io.Combo.Input(
                    "weights", options=list(SETS), default=next(iter(SETS)),
                    tooltip="Which weights, and what they need besides:\n" + "\n".join(map(about, SETS)),
                ),
                io.Boolean.Input(
                    "accept_licence", default=False,
                    tooltip="Turn on after reading the licences of these weights. Off, the node says what it would "
                            "fetch and from where, and fetches nothing.",
                ),
            ],
            outputs=[
                io.String.Output(
                    id="path", display_name="path",
                    tooltip="Where the weights lie: the pipeline.json for the loader, else the folder.",
                ),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, weights, accept_licence):
        return host.new_every_time()

    @classmethod
    @host.one_sentence
    def execute(cls, weights, accept_licence) -> io.NodeOutput:
        fetched_with, _ = published.needs(SETS[weights])
        chosen = [SETS[weights], *fetched_with]
        folder = host.folders(FOLDERS.get(weights, host.TRELLIS2_FOLDER))[0]
        items, fetched = get_all(chosen, folder, accept_licence, host.model_roots(), host.Progress())
        first = items[0].target
        path = first if first.name.startswith("pipeline") else first.parent
        text = f"{', '.join(one.name for one in chosen)}: {len(items)} files in {folder}, {fetched} fetched now\n{path}"
        return io.NodeOutput(str(path), ui=host.show_text(text))
