"""Training recipes, and the procedural objects of the embedded weights."""
