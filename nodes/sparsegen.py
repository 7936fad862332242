"""SparseGen: Load SparseGen Model, Sparse-Query Splat Sampler."""

from __future__ import annotations

from ..models.sparsegen import load_sparsegen
from ..models.sparsegen.weights import ALL, EMBEDDED, PUBLISHED, TINY
from ..pipelines.sparsegen import sample_sparsegen, working_memory
from . import host
from .host import io

CATEGORY = f"{host.CATEGORY}/SparseGen"


def licence_of(name: str) -> str:
    """One line: under which licence the weights of this name stand, and what they know."""
    if name == EMBEDDED:
        return f"{TINY.title}: {TINY.licence}, {TINY.domain}."
    return f"{name}: a file of yours, licensed by its maker (the published SparseGen weights: {PUBLISHED.licence})."


class SparseGenLoader(io.ComfyNode):
    """Weights -> model."""

    @classmethod
    def define_schema(cls):
        files = host.weight_files(host.SPARSEGEN_FOLDER)
        licences = "\n".join(f"{w.name}: {w.title}. Licence {w.licence}. Source: {w.source}." for w in ALL)
        return io.Schema(
            node_id="SightlineSparseGenLoader",
            display_name="Load SparseGen Model",
            category=CATEGORY,
            description="Load SparseGen weights: the small ones that come with this pack, or a file in "
                        "models/sparsegen (a published model.pth with its .hydra folder beside it, or .safetensors). "
                        "Files are never executed.",
            search_aliases=["sparsegen", "sparse query", "gaussian splat model", "image to splat model"],
            inputs=[
                io.Combo.Input(
                    "weights", options=[EMBEDDED, *files], default=EMBEDDED,
                    tooltip=f"Which weights: {EMBEDDED} comes with this pack and needs no download; others lie in "
                            f"models/{host.SPARSEGEN_FOLDER}.\n{licences}",
                ),
            ],
            outputs=[
                host.SparseGenModel.Output(
                    id="model", display_name="model", tooltip="The SparseGen model, for the Sparse-Query Splat Sampler."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, weights):
        return weights if weights == EMBEDDED else host.file_state(host.weight_path(host.SPARSEGEN_FOLDER, weights))

    @classmethod
    @host.one_sentence
    def execute(cls, weights) -> io.NodeOutput:
        source = EMBEDDED if weights == EMBEDDED else host.weight_path(host.SPARSEGEN_FOLDER, weights)
        network, info = load_sparsegen(source)
        text = f"{info.parameters / 1e6:.1f} M parameters, {info.config.num_gaussians} Gaussians\n{licence_of(weights)}"
        host.tell(text)
        return io.NodeOutput(host.LoadedModel.wrap(network, info), ui=host.show_text(text))


class SparseQuerySplatSampler(io.ComfyNode):
    """Views -> Gaussian splat."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSparseQuerySplatSampler",
            display_name="Sparse-Query Splat Sampler",
            category=CATEGORY,
            description="Turn one to six pictures of an object into a Gaussian splat. One step of the small model "
                        "takes well under a second. The front of the splat is azimuth 0 of the View Set.",
            search_aliases=["sparsegen sampler", "image to splat", "image to 3d", "gaussian splatting", "single image"],
            inputs=[
                host.SparseGenModel.Input("model", tooltip="The SparseGen model of Load SparseGen Model."),
                host.Views.Input("views", tooltip="The pictures and their cameras, from View Set."),
                io.Int.Input(
                    "steps", default=1, min=1, max=1000,
                    tooltip="Sampling steps. 1 is one pass of the network, and all that sparsegen-tiny needs; more "
                            "steps cost as many times as much and suit the published weights.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Number that chooses the starting noise of the virtual cameras; another one imagines the "
                            "unseen sides differently, with sparsegen-tiny hardly so.",
                ),
                io.Float.Input(
                    "noise", default=1.0, min=0.0, max=2.0, step=0.05, advanced=True,
                    tooltip="Strength of the starting noise. 1 is what the model was trained with; below 1 the unseen "
                            "sides become more average, 0 gives the same result for every seed.",
                ),
                host.CamerasType.Input(
                    "virtual_cameras", optional=True,
                    tooltip="Further cameras without a picture, whose views the sampler imagines. Left open, three "
                            "stand around the object.",
                ),
            ],
            outputs=[
                io.Splat.Output(
                    id="splat", display_name="splat",
                    tooltip="The Gaussian splat, facing the viewer at azimuth 0; for Splat Turntable, Save Splat File "
                            "and the core's splat nodes.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, views, steps, seed, noise, virtual_cameras=None) -> io.NodeOutput:
        config = model.info.config
        imagined = config.virtual_views if virtual_cameras is None else len(virtual_cameras)
        network = model.on_device(working_memory(config, len(views) + imagined))
        progress = host.Progress(steps)
        splats = sample_sparsegen(
            network, views.images, views.cameras, virtual_cameras,
            steps=steps, seed=seed, noise_scale=noise, callback=progress, preview=progress.preview,
        )  # fmt: skip
        host.tell(f"{len(splats):,} splats" + ("" if imagined else " from the pictures alone"))
        return io.NodeOutput(host.splat(splats))
