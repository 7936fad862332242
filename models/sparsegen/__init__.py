"""SparseGen: one to six posed pictures -> a few thousand Gaussians, by sparse 3D anchors that read all views."""

from .config import SparseGenConfig
from .embeddings import assemble_views, pose_channels, view_times
from .gaussians import Gaussians
from .initialize import initialize
from .model import SparseGen, ViewCache
from .rendering import render_views

__all__ = ["Gaussians", "SparseGen", "SparseGenConfig", "ViewCache", "assemble_views", "initialize", "pose_channels",
           "render_views", "view_times"]
