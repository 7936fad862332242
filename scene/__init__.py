"""Cameras, Gaussian splats, meshes, view sets and files: data every other part of Sightline knows."""
