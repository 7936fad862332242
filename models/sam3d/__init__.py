"""SAM 3D Objects: the networks that predict shape, latents and pose of an object in a picture."""
