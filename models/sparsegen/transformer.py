"""The multi-view encoder and the anchor decoder."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .config import SparseGenConfig
from .embeddings import TimestepEmbedder
from .vit import modulate


class MultiHeadAttention(nn.Module):
    """Attention with separate query, key, value and output projections."""

    def __init__(self, dims: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj = nn.Linear(dims, dims)
        self.k_proj = nn.Linear(dims, dims)
        self.v_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Linear(dims, dims)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x [B,L,C] asks, context [B,S,C] gives keys and values -> [B,L,C]."""
        q, k, v = (
            projection(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, y in ((self.q_proj, x), (self.k_proj, context), (self.v_proj, context))
        )
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.output_proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, Linear."""

    def __init__(self, dims: int, hidden: int, dropout: float):
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden)
        self.fc2 = nn.Linear(hidden, dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,L,C] -> [B,L,C]."""
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class EncoderLayer(nn.Module):
    """Post-norm layer; position and time are added to the residual stream of every layer."""

    def __init__(self, config: SparseGenConfig):
        super().__init__()
        self.self_attn = MultiHeadAttention(config.embed_dims, config.num_heads, config.dropout)
        self.feed_forward = FeedForward(config.embed_dims, config.ffn_dims, config.dropout)
        self.norm1 = nn.LayerNorm(config.embed_dims)
        self.norm2 = nn.LayerNorm(config.embed_dims)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, position: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """x, position, time [B,T,C] -> [B,T,C]."""
        x = x + position + time
        x = self.norm1(x + self.dropout(self.self_attn(x, x)))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class DecoderLayer(nn.Module):
    """Pre-norm layer with adaLN-Zero: anchors attend to each other, then to the views."""

    def __init__(self, config: SparseGenConfig):
        super().__init__()
        dims = config.embed_dims
        self.self_attn = MultiHeadAttention(dims, config.num_heads, config.dropout)
        self.cross_attn = MultiHeadAttention(dims, config.num_heads, config.dropout)
        self.feed_forward = FeedForward(dims, config.ffn_dims, config.dropout)
        self.norm1 = nn.LayerNorm(dims)
        self.norm2 = nn.LayerNorm(dims)
        self.norm3 = nn.LayerNorm(dims)
        self.dropout = nn.Dropout(config.dropout)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dims, 9 * dims))

    def forward(
        self, x: torch.Tensor, queries: torch.Tensor, context: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """x, queries [B,Q,C]; context [B,T,C] = encoded views + their positions; time [B,C] -> [B,Q,C]."""
        x = x + queries
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = self.adaLN_modulation(time).chunk(
            9, dim=1
        )
        y = modulate(self.norm1(x), shift1, scale1)
        x = x + gate1.unsqueeze(1) * self.dropout(self.self_attn(y, y))
        y = modulate(self.norm2(x), shift2, scale2)
        x = x + gate2.unsqueeze(1) * self.dropout(self.cross_attn(y, context))
        y = modulate(self.norm3(x), shift3, scale3)
        return x + gate3.unsqueeze(1) * self.dropout(self.feed_forward(y))


def to_tokens(maps: torch.Tensor) -> torch.Tensor:
    """[B,V,C,h,w] -> [B,V*h*w,C], view-major, then row-major."""
    return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)


class SparseGenTransformer(nn.Module):
    """Encoder over all cells of all views, then decoder in which the anchors read them."""

    def __init__(self, config: SparseGenConfig):
        super().__init__()
        self.encoder_layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.t_embedder = TimestepEmbedder(config.embed_dims)
        self.decoder_layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_decoder_layers))

    def encode(self, features: torch.Tensor, position: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """features, position [B,V,C,h,w], times [B,V] -> memory [B,V*h*w,C]."""
        x, position = to_tokens(features), to_tokens(position)
        cells = features.shape[-2] * features.shape[-1]
        time = self.t_embedder(times.reshape(-1)).unflatten(0, times.shape).repeat_interleave(cells, dim=1)
        for layer in self.encoder_layers:
            x = layer(x, position, time)
        return x

    def forward(
        self, features: torch.Tensor, queries: torch.Tensor, position: torch.Tensor, times: torch.Tensor
    ) -> list[torch.Tensor]:
        """features, position [B,V,C,h,w]; queries [B,Q,C]; times [B,V] (0..1000) -> [B,Q,C] after each decoder layer.

        The decoder is told the time of the last view only, as in the published model: if the last view is a clean one,
        the anchors are modulated by time 0.
        """
        context = self.encode(features, position, times) + to_tokens(position)
        time = self.t_embedder(times[:, -1])
        x, outputs = torch.zeros_like(queries), []
        for layer in self.decoder_layers:
            x = layer(x, queries, context, time)
            outputs.append(x)
        return outputs
