"""From a folder of meshes to what the recipes of TRELLIS.2 and Pixal3D are trained on."""
