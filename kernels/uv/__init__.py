"""Texture coordinates: cutting a surface into charts, flattening and packing them.

Convention of this folder: glTF. uv (0, 0) is the outer corner of the first texel of the first row, u runs along the
row, v down the rows.
"""
