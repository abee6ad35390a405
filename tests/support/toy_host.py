"""A third host, as small as a host can be, which the package does not know: regions and words are mapped and averaged.

It shows what a host consists of: its `model` section, its row of the table, two encoders, and its line in the builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import Field
from support.tiny_models import COMMON
from torch import nn

from selfalign_cli.assembly.build import ENCODERS
from selfalign_cli.encodings import HostEncoding, ImageBatch, TextBatch
from selfalign_cli.models.parts.norm import masked_mean, unit
from selfalign_cli.recipe.hosts import HOSTS, Host, HostSection
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.section import Positive

TOY = COMMON % ("vocab: tiny.json", "name: toy, embed_dim: 8, word_dim: 5", "")


class ToySection(HostSection):
    """The toy encoders: a linear map and a mean on each side."""

    name: Literal["toy"]
    word_dim: Positive = Field(default=300, description="Width of the word table.")


class ToyImageEncoder(nn.Module):
    """Regions -> linear map -> mean."""

    def __init__(self, feature_dim: int, *, embed_dim: int = 2048) -> None:
        super().__init__()
        self.fc = nn.Linear(feature_dim, embed_dim)

    def forward(self, images: ImageBatch) -> HostEncoding:
        """Encode B pictures into one vector each."""
        states = self.fc(images.features)  # (B, R, D)
        pooled = unit(masked_mean(states, images.mask))
        return HostEncoding(pooled.unsqueeze(1), unit(states), states, images.mask)


class ToyTextEncoder(nn.Module):
    """Word table -> linear map -> mean."""

    def __init__(self, vocab_size: int, *, word_dim: int = 300, embed_dim: int = 2048) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, word_dim)
        self.fc = nn.Linear(word_dim, embed_dim)

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions."""
        states = self.fc(self.embed(texts.ids))  # (B, W, D)
        return HostEncoding(unit(masked_mean(states, texts.mask)), unit(states), states, texts.mask)


TOY_HOST = Host(
    name="toy",
    title="Toy",
    section=ToySection,
    captions="words",
    boxes=False,
    feeds=(),
    reads_padding=False,
    context_first=True,
)


@contextmanager
def toy_host_known(host: Host = TOY_HOST) -> Iterator[None]:
    """Add the toy host to the table and to the builder for a while."""
    HOSTS[host.name] = host
    ENCODERS[host.name] = (ToyImageEncoder, ToyTextEncoder)
    Recipe.model_rebuild(force=True)  # its `model` section is one of those in the table
    try:
        yield
    finally:
        del HOSTS[host.name], ENCODERS[host.name]
        Recipe.model_rebuild(force=True)
