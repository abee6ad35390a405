"""Small pieces that hosts and the caption generator have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WORD_TABLE_RANGE = 0.1


def xavier_linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a linear map with Xavier-uniform weight and zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def word_table(words: int, width: int) -> nn.Embedding:
    """Make a word table that starts uniform in ±0.1."""
    table = nn.Embedding(words, width)
    nn.init.uniform_(table.weight, -WORD_TABLE_RANGE, WORD_TABLE_RANGE)
    return table


def last_state(states: Tensor, mask: Tensor) -> Tensor:
    """Pick the state of the last real position: (B, S, D), (B, S) -> (B, D)."""
    last = mask.sum(dim=1).clamp(min=1) - 1
    return states[torch.arange(len(states), device=states.device), last]
