"""Tokens of several prior pictures made into the one condition of the prior branch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError

POOLINGS = ("concat", "mean", "consensus")
EPS = 1e-6


def pool_priors(
    tokens: Sequence[Tensor],
    mode: str = "concat",
    *,
    temperature: float = 0.1,
    agreement_boost: float = 0.0,
    aligned: bool = True,
) -> Tensor:
    """One condition from the tokens of every prior.

    tokens: [B, T, D] of each prior; "mean" and "consensus" want the same T. mode: "concat" puts them one after the
    other (the paper's method), "mean" averages, "consensus" weights every token by its agreement with the mean,
    sharper for a lower `temperature`. agreement_boost: lengthens tokens on which the priors agree. aligned: tokens of
    the later priors are first paired with those of the first (as the SAM3D code does; the TRELLIS code does not, and
    boosts the weights instead). One prior is returned as it is. Raises InputError for what does not fit.
    Source: RelaxFlow, prior pooling of both released pipelines.
    """
    tokens = list(tokens)
    if not tokens:
        raise InputError("There are no priors; give at least one picture of what the hidden part should look like.")
    if mode not in POOLINGS:
        raise InputError(f"`mode` is {mode!r}; one of {', '.join(POOLINGS)} would work.")
    if agreement_boost < 0:
        raise InputError(f"`agreement_boost` is {agreement_boost}; 0 (off) or more would work.")
    if len(tokens) == 1:
        return tokens[0]
    if mode == "concat":
        return torch.cat(tokens, 1)
    if len({part.shape for part in tokens}) > 1:
        shapes = ", ".join(str(list(part.shape)) for part in tokens)
        raise InputError(f"The priors have tokens of shapes {shapes}; `{mode}` wants equal ones, 'concat' does not.")
    if mode == "consensus" and temperature <= 0:
        raise InputError(f"`temperature` is {temperature}; it must be positive.")
    stack = torch.stack(tokens)
    if not aligned:
        return _plain(stack, mode, temperature, agreement_boost)
    if mode == "consensus" or agreement_boost > 0:
        stack = torch.stack([stack[0], *(align_tokens(stack[0], part) for part in stack[1:])])
    if mode == "mean":
        pooled = stack.mean(0)
    else:
        unit = F.normalize(stack, dim=-1, eps=EPS)
        center = F.normalize(unit.mean(0, keepdim=True), dim=-1, eps=EPS)
        weights = torch.softmax((unit * center).sum(-1, keepdim=True) / temperature, 0)
        pooled = (weights * stack).sum(0)
    if agreement_boost > 0:
        spread = stack.var(0, unbiased=False).mean(-1, keepdim=True)
        pooled = pooled * (1.0 + agreement_boost / (1.0 + spread / spread.mean().clamp_min(EPS)))
    return pooled


def _plain(stack: Tensor, mode: str, temperature: float, agreement_boost: float) -> Tensor:
    mean = stack.mean(0, keepdim=True)
    if mode == "mean":
        return mean[0]
    similar = F.cosine_similarity(stack, mean, dim=-1)
    weights = torch.softmax(similar / max(temperature, 1e-6), 0)
    if agreement_boost > 0:
        weights = weights * (1.0 + agreement_boost * similar.clamp(min=0.0))
        weights = weights / weights.sum(0, keepdim=True).clamp_min(1e-6)
    return (weights[..., None] * stack).sum(0)


def align_tokens(reference: Tensor, tokens: Tensor) -> Tensor:
    """The tokens [B, T, D] in the order in which they resemble those of `reference` [B, T, D].

    Reference tokens choose in descending order of their best cosine similarity; each takes the most similar token not
    yet taken.
    """
    similar = F.normalize(reference.float(), dim=-1, eps=EPS) @ F.normalize(tokens.float(), dim=-1, eps=EPS).mT
    chosen = torch.empty(similar.shape[:2], dtype=torch.long, device=similar.device)
    for item, table in enumerate(similar):
        table = table.clone()
        for row in torch.argsort(table.max(1).values, descending=True).tolist():
            column = table[row].argmax()
            chosen[item, row] = column
            table[:, column] = -1e9
    return tokens.gather(1, chosen[..., None].expand_as(tokens))


def check_priors(tokens: Sequence[Tensor]) -> None:
    """Raises InputError where a prior shows nothing: not finite, or all its tokens alike."""
    for index, part in enumerate(tokens):
        if not bool(torch.isfinite(part).all()):
            raise InputError(f"Prior {index + 1} has tokens that are not finite numbers; the picture cannot be read.")
