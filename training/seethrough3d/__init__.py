"""Training SeeThrough3D's LoRA: condition tokens of FLUX learn to read the occlusion control render."""
