"""TRELLIS (v1), image-large: the flows and decoders that are not TRELLIS.2's, under their published names."""
