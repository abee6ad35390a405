"""Two toy loss terms that read tensors which no term of the program reads."""

from __future__ import annotations

from dataclasses import replace

import torch
from support.tiny_models import Tiny
from torch import Tensor, nn

from selfalign_cli.losses.objective import Objective, Term


class Contrast(nn.Module):
    """Mean states of a picture against those of all captions, with a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, regions: Tensor, words: Tensor, index: Tensor) -> Tensor:
        scores = self.scale * regions.mean(dim=1) @ words.mean(dim=1).T
        return scores.logsumexp(dim=1).sum() + (index * scores.diagonal()).sum()


class Widths(nn.Module):
    """Weighted word states and box widths of each pair."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, words: Tensor, boxes: Tensor, *, pairs: int) -> Tensor:
        return (self.scale * words.square().sum(dim=(1, 2)) * boxes[:, 0, 2]).sum() / pairs


def with_new_terms(tiny: Tiny) -> Tiny:
    """Add a term of the whole batch and a per-pair term to the loss of a model."""
    new = [
        Term(
            "contrast",
            weight=0.3,
            weight_key=None,
            function=Contrast(),
            reads={"regions": "images.host.states", "words": "texts.host.states", "index": "batch.images.index"},
        ),
        Term(
            "widths",
            weight=0.001,
            weight_key=None,
            function=Widths(),
            reads={"words": "texts.host.states", "boxes": "batch.images.boxes"},
            per_pair=True,
        ),
    ]
    return replace(tiny, objective=Objective([*tiny.objective.terms.values(), *new]).train())
