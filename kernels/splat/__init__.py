from .api import Render, rasterize
