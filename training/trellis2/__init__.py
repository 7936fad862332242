"""Training TRELLIS.2 and Pixal3D: the autoencoders of structure, shape and texture, and the three flows."""
