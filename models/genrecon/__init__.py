"""GenRecon: TRELLIS.2's flows conditioned on many posed views of a scene."""
