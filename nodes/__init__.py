"""What ComfyUI loads: thin nodes over the library. `host` is the only room that knows ComfyUI's own modules."""

from . import host
from .completion import CompletionSampler
from .examples import ExamplePicture
from .flux_occlusion import FluxSigmas, OcclusionConditioning, OcclusionLoraLoader
from .genrecon import ChunkSampler, GenReconLoader, SceneBake, SceneCondition, SceneDecode
from .host.routes import register_routes
from .layout import LoadScene, OcclusionControlRender, SaveScene
from .layout_editor import LayoutEditor
from .mesh_files import GLBBake, LoadMesh
from .mesh_finish import MeshFinish
from .overlay import ProjectionGridOverlay
from .point_map import PointMap
from .projection import ProjectionConditionerNative
from .relax_settings import RelaxSettingsNode
from .relaxflow import AttentionLogitBlur, CombinePriors, DualBranchGuiderNode, VisibilityMaskNode
from .sam3d import SAM3DLatent, SAM3DLoader, SAM3DStructure
from .sam3d_decode import SAM3DMesh, SAM3DSplat
from .scene_views import ChunkPlanner, ScenePhotosNode
from .selfcheck import SelfCheck, startup_line
from .sparsegen import SparseGenLoader, SparseQuerySplatSampler
from .splats import SaveSplat, SplatTurntable
from .texture_bake import TextureBake, Unwrap
from .texturing import TextureMesh
from .trellis1 import (
    Trellis1Latent,
    Trellis1Loader,
    Trellis1Mesh,
    Trellis1Splat,
    Trellis1Structure,
    Trellis1Tokens,
)
from .trellis2 import DecodeShapeTexture, ShapeSampler, SparseStructureSampler, TextureSampler
from .trellis2_condition import PictureCondition
from .trellis2_models import Trellis2CoreLoader, Trellis2Loader
from .views import CameraFrom3DView, OrbitCameras, ViewSetNode
from .weights import DownloadWeights

NODES = [
    SparseGenLoader,
    ViewSetNode,
    OrbitCameras,
    CameraFrom3DView,
    SparseQuerySplatSampler,
    SplatTurntable,
    SaveSplat,
    ExamplePicture,
    SelfCheck,
    ProjectionConditionerNative,
    Trellis2Loader,
    PictureCondition,
    SparseStructureSampler,
    ShapeSampler,
    TextureSampler,
    DecodeShapeTexture,
    DownloadWeights,
    ProjectionGridOverlay,
    Trellis2CoreLoader,
    TextureMesh,
    Unwrap,
    TextureBake,
    LoadMesh,
    GLBBake,
    OcclusionLoraLoader,
    OcclusionConditioning,
    FluxSigmas,
    AttentionLogitBlur,
    CombinePriors,
    VisibilityMaskNode,
    DualBranchGuiderNode,
    LayoutEditor,
    GenReconLoader,
    ScenePhotosNode,
    ChunkPlanner,
    SceneCondition,
    ChunkSampler,
    SceneDecode,
    SceneBake,
    MeshFinish,
    LoadScene,
    SaveScene,
    OcclusionControlRender,
    RelaxSettingsNode,
    CompletionSampler,
    Trellis1Loader,
    Trellis1Tokens,
    Trellis1Structure,
    Trellis1Latent,
    Trellis1Splat,
    Trellis1Mesh,
    SAM3DLoader,
    PointMap,
    SAM3DStructure,
    SAM3DLatent,
    SAM3DSplat,
    SAM3DMesh,
]


class SightlineExtension(host.ComfyExtension):
    """All nodes of this pack."""

    async def on_load(self) -> None:
        """Register model folders and routes and say in one line what was found; no network, no heavy imports."""
        host.register_folders()
        register_routes()
        host.log.info(startup_line(len(NODES)))

    async def get_node_list(self) -> list[type[host.io.ComfyNode]]:
        """The nodes, in the order of the menu."""
        return NODES
