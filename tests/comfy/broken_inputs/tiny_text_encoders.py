"""Lets core's CLIP loaders read text encoders smaller than FLUX's, which `native_flux_files.py` writes.

Core takes their sizes from its own files and offers no other way from a node; here they are read from the weights.
"""

import comfy.text_encoders.long_clipl as core

read = core.model_options_long_clip  # core's own exception for text encoders of other sizes


def sizes(weights):
    """What a file's weights say of the sizes, for those that are not FLUX's own."""
    if "shared.weight" in weights and weights["shared.weight"].shape[1] < 1024:
        heads = weights["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[1]
        key = weights["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] // heads
        feed = weights["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0]
        width = weights["shared.weight"].shape[1]
        layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.block.")})
        return {"t5xxl_model_config": dict(d_model=width, d_ff=feed, d_kv=key, num_heads=heads, num_layers=layers)}
    table = weights.get("text_model.embeddings.token_embedding.weight")
    if table is not None and table.shape[1] < 512:
        layers = len({name.split(".")[3] for name in weights if name.startswith("text_model.encoder.layers.")})
        feed, width = weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape
        config = dict(hidden_size=width, intermediate_size=feed, num_attention_heads=2, num_hidden_layers=layers)
        return {"clip_l_model_config": config}
    return {}


def read_any_size(weights, tokenizer_data, model_options):
    tokenizer_data, model_options = read(weights, tokenizer_data, model_options)
    for key, config in sizes(weights).items():
        model_options = {**model_options, key: {**model_options.get(key, {}), **config}}
    return tokenizer_data, model_options


core.model_options_long_clip = read_any_size
