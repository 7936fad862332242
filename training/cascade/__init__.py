"""Training of the embedded family: TRELLIS.2's networks with Pixal3D's conditioning, on procedural objects."""
