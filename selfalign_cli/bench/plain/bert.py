"""BERT written out, over the whole padded width; with dropout in training mode (MODELS.md M5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

HIDDEN = -10_000.0
"""Added to the scores of padded words."""


def token_states(bert: Any, ids: Tensor, mask: Tensor, *, training: bool) -> Tensor:
    """Last hidden layer (B, W, E) of captions (B, W).

    Args:
        bert: a BERT of `transformers`, for its weights.
        ids: 0 where padded.
        mask: True on real words.
        training: whether dropout is on.
    """
    config, table = bert.config, bert.embeddings
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    states = table.word_embeddings(ids) + table.position_embeddings(positions)
    states = states + table.token_type_embeddings(torch.zeros_like(ids))
    states = functional.dropout(layer_norm(table.LayerNorm, states), config.hidden_dropout_prob, training)
    hidden = (1.0 - mask.to(states.dtype))[:, None, None, :] * HIDDEN
    for layer in bert.encoder.layer:
        states = transformer_layer(layer, config, states, hidden, training=training)
    return states


def transformer_layer(layer: Any, config: Any, states: Tensor, hidden: Tensor, *, training: bool) -> Tensor:
    """One layer on (B, W, E); `hidden` (B, 1, 1, W) is added to the scores."""
    heads, dropout = config.num_attention_heads, config.hidden_dropout_prob
    own = layer.attention.self
    query, key, value = (split_heads(linear(states), heads) for linear in (own.query, own.key, own.value))
    scores = torch.matmul(query, key.transpose(-1, -2)) / query.shape[-1] ** 0.5 + hidden
    weights = functional.dropout(functional.softmax(scores, dim=-1), config.attention_probs_dropout_prob, training)
    read = merge_heads(torch.matmul(weights, value))
    out = layer.attention.output
    states = layer_norm(out.LayerNorm, functional.dropout(out.dense(read), dropout, training) + states)
    wide = functional.gelu(layer.intermediate.dense(states))
    return layer_norm(layer.output.LayerNorm, functional.dropout(layer.output.dense(wide), dropout, training) + states)


def layer_norm(norm: Any, states: Tensor) -> Tensor:
    """Layer normalisation over the last axis."""
    return functional.layer_norm(states, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, W, E) -> (B, H, W, E / H)."""
    return x.view(*x.shape[:2], heads, -1).permute(0, 2, 1, 3)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, W, E / H) -> (B, W, E)."""
    return x.permute(0, 2, 1, 3).contiguous().flatten(2)
