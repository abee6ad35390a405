"""The caption generator step by step: all steps compute their attention and predict over the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.models.parts.captioner import CaptionGenerator


def log_probabilities(generator: CaptionGenerator, regions: Tensor, labels: Tensor) -> Tensor:
    """Predict every position of every caption, teacher forced (MODELS.md 2.3).

    Args:
        generator: whose weights and dropout are used.
        regions: (B, R, D), all real.
        labels: (B, M + 1) int64.

    Returns:
        (B, M - 1, V).
    """
    memory, last = generator.encoder(generator.dropout(generator.region_map(regions)))
    state = last[0]
    predictions = []
    for step in range(generator.max_len - 1):
        word = generator.embed(labels[:, step])
        inputs = generator.dropout(torch.cat([word, read(generator, memory, state)], dim=1))
        state = generator.decoder(inputs, state)
        predictions.append(functional.log_softmax(generator.out(state), dim=1).unsqueeze(1))
    return torch.cat(predictions, dim=1)


def read(generator: CaptionGenerator, memory: Tensor, state: Tensor) -> Tensor:
    """Attend over the encoder states (B, R, h) with one decoder state (B, h) -> (B, h)."""
    batch, regions, width = memory.shape
    pairs = torch.cat([memory, state.unsqueeze(1).repeat(1, regions, 1)], dim=2).view(-1, 2 * width)
    scores = generator.attention_score(torch.tanh(generator.attention(pairs)))
    weights = functional.softmax(scores.view(batch, regions), dim=1)
    return torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
