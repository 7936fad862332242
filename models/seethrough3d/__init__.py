"""SeeThrough3D: a condition branch on FLUX whose tokens see only the words of the boxes they show."""
