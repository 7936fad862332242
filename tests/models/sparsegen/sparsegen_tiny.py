"""A SparseGen that takes no time."""

TINY = dict(
    embed_dims=16,
    depth_num=4,
    num_query=6,
    num_gs_per_query=2,
    num_encoder_layers=1,
    num_decoder_layers=2,
    num_heads=2,
    ffn_dims=32,
    head_sets=2,
    vit_dims=12,
    vit_depth=1,
    vit_heads=3,
    vit_mlp_dims=24,
    vit_grid=3,
    patch_size=8,
    image_size=32,
    input_size=16,
)


def tiny(**changes):
    """Its configuration with some values changed."""
    from sightline.models.sparsegen import SparseGenConfig

    return SparseGenConfig(**{**TINY, **changes})
