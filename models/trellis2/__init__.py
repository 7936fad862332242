"""The networks of TRELLIS.2 and Pixal3D, under their published parameter names."""
