"""Triangle meshes as tensors: repair, measures, decimation, remeshing and closest points."""
