"""SparseGen: one to six posed pictures -> a few thousand Gaussians, by sparse 3D anchors that read all views."""

from .checkpoint import LoadInfo, convert, load_sparsegen, save_sparsegen
from .config import SparseGenConfig
from .embeddings import assemble_views, pose_channels, view_times
from .gaussians import Gaussians
from .initialize import initialize
from .model import SparseGen, ViewCache
from .rendering import render_views
from .schedule import network_time, sampling_schedule, training_schedule

__all__ = [
    "Gaussians",
    "LoadInfo",
    "SparseGen",
    "SparseGenConfig",
    "ViewCache",
    "assemble_views",
    "convert",
    "initialize",
    "load_sparsegen",
    "network_time",
    "pose_channels",
    "render_views",
    "sampling_schedule",
    "save_sparsegen",
    "training_schedule",
    "view_times",
]
