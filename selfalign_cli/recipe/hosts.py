"""The hosts: the `model` section of each, and one table of what the rest of the program must know about them.

A host is a pair of encoders, of pictures and of captions, below SelfAlign. A new one needs its section and its row
here, a file in `models/hosts`, and a line in `assembly/build.py`; no other code asks which host it has to do with.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from selfalign_cli.recipe.section import Count, Positive, Probability, Section, Text

Captions = Literal["words", "pieces"]
ExtraTerm = Literal["captioning", "diversity"]
Part = Captions | ExtraTerm
"""What some hosts have and others lack: a word table or BERT's word pieces, and the tensors of an extra loss."""


class HostSection(Section):
    """The `model` section of any host."""

    name: str
    embed_dim: Positive | None = Field(
        default=2048,
        description="Width D of region states, word states and retrieval vectors; null: that of the features, "
        "in steps of 64 and at most 256.",
    )


class BertSection(HostSection):
    """The `model` section of a host whose captions are the token states of a BERT."""

    bert: Text = Field(description="BERT folder, current or older layout, a hub name, or package:NAME.")
    finetune: bool = Field(default=False, description="Train BERT too, at optim.bert_learning_rate.")
    bert_eval_mode: bool = Field(
        default=True, description="Keep a frozen BERT in evaluation mode while training (M5)."
    )


class VsrnSection(HostSection):
    """The VSRN encoders: region graph and GRU over regions, GRU over words."""

    name: Literal["vsrn"]
    word_dim: Positive = Field(default=300, description="Width of the word table.")
    graph_layers: Count = Field(default=4, description="Region graph layers.")
    normalize_regions: bool = Field(default=False, description="Normalise after the first map (COCO; not Flickr30K).")
    final_batchnorm: bool = Field(
        default=False, description="Batch normalisation of the pooled picture (Flickr30K only)."
    )
    normalize_over: Literal["places", "embedding"] = Field(
        default="places",
        description="Axis of the 3-D normalisations: over regions as published, or over the embedding (M1).",
    )
    bounded_norm: bool = Field(default=True, description="Bound those lengths below by 1e-12 (M1).")
    absolute: bool = Field(default=False, description="Take absolute values of the pooled vectors.")
    normalize_image: bool = Field(default=True, description="Give pooled picture vectors unit length.")


class CameraSection(BertSection):
    """The CAMERA encoders: gated self-attention over regions and words, views, BERT below the words."""

    name: Literal["camera"]
    heads: Positive = Field(default=64, description="Attention heads; they divide embed_dim.")
    views: Positive = Field(default=12, description="View vectors per picture.")
    attention_layers: Positive = Field(default=1, description="Gated self-attention layers.")
    dropout: Probability = Field(default=0.0, description="Dropout in attention and feed-forward layers.")
    equal_start: bool = Field(default=True, description="Query, key and value maps start as equal copies (M10).")
    guard_boxes: bool = Field(default=True, description="Bound box heights away from zero in w/h (M11).")
    normalize_over: Literal["places", "embedding"] = Field(
        default="places",
        description="Axis of the 3-D normalisations: over regions or tokens as published, or over the embedding (M1).",
    )
    bounded_norm: bool = Field(default=True, description="Bound those lengths below by 1e-12 (M1).")


class VseInftySection(HostSection):
    """The VSE∞ encoders: an MLP over regions, a GRU both ways over words, learned pooling."""

    name: Literal["vse_infty"]
    embed_dim: Positive | None = Field(default=1024, description=HostSection.model_fields["embed_dim"].description)
    word_dim: Positive = Field(default=300, description="Width of the word table.")
    concepts: Literal["words", "states"] = Field(
        default="words",
        description="What the concept loss learns from: words, mapped below the GRU; or its states, without a map.",
    )
    mask_regions: bool = Field(default=True, description="Batch normalisation sees real regions only (G3).")
    normalize_image: bool = Field(default=True, description="Give pooled picture vectors unit length.")
    normalize_text: bool = Field(default=True, description="Give pooled caption vectors unit length.")


class VseInftyBertSection(BertSection):
    """The VSE∞ encoders over BERT: an MLP over regions, a trained BERT over word pieces, learned pooling."""

    name: Literal["vse_infty_bert"]
    embed_dim: Positive | None = Field(default=1024, description=HostSection.model_fields["embed_dim"].description)
    finetune: bool = Field(default=True, description="Train BERT too, at optim.bert_learning_rate.")
    mask_regions: bool = Field(default=True, description="Batch normalisation sees real regions only (G3).")
    normalize_image: bool = Field(default=True, description="Give pooled picture vectors unit length.")
    normalize_text: bool = Field(default=True, description="Give pooled caption vectors unit length.")


@dataclass(frozen=True)
class Host:
    """A row of the table.

    Attributes:
        name: `model.name` of recipes.
        title: its name in prose.
        section: its `model` section.
        captions: `words` of a vocabulary (`data.vocab`), or word `pieces` that BERT reads (a `BertSection`).
        boxes: whether it reads region boxes and picture sizes.
        feeds: the extra loss terms whose tensors it computes: sections of `loss` that other hosts cannot have.
        reads_padding: whether its captions read padded positions where the `padding` section says so; otherwise that
            section concerns SelfAlign alone.
        context_first: order of the picture's context block, (context, mean local) or (mean local, context).
        splits_chinese: whether its released program reads every Chinese character as a word.
        spared: rows of the preset table (`recipe.compat`) that its released program has no part in.
    """

    name: str
    title: str
    section: type[HostSection]
    captions: Captions
    boxes: bool
    feeds: tuple[ExtraTerm, ...]
    reads_padding: bool
    context_first: bool
    splits_chinese: bool = False
    spared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.captions == "pieces") != issubclass(self.section, BertSection):
            raise TypeError(f"host {self.name}: word pieces and a BertSection go together")

    def has(self, part: Part) -> bool:
        """Whether its captions, or the loss terms it feeds, are of a kind."""
        return part == self.captions or part in self.feeds


# It lower-cases all letters and selects by the true rsum; its BERT is trained; SelfAlign was never published on it.
VSE_INFTY_SPARED = ("M2", "M3", "M4", "M5", "D2", "D6")
_ROWS = (
    Host(
        name="vsrn",
        title="VSRN",
        section=VsrnSection,
        captions="words",
        boxes=False,
        feeds=("captioning",),
        reads_padding=False,
        context_first=True,
    ),
    Host(
        name="camera",
        title="CAMERA",
        section=CameraSection,
        captions="pieces",
        boxes=True,
        feeds=("diversity",),
        reads_padding=True,
        context_first=False,
    ),
    Host(
        name="vse_infty",
        title="VSE∞",
        section=VseInftySection,
        captions="words",
        boxes=False,
        feeds=(),
        reads_padding=False,
        context_first=True,
        spared=VSE_INFTY_SPARED,
    ),
    Host(
        name="vse_infty_bert",
        title="VSE∞ with BERT",
        section=VseInftyBertSection,
        captions="pieces",
        boxes=False,
        feeds=(),
        reads_padding=False,
        context_first=True,
        splits_chinese=True,
        spared=VSE_INFTY_SPARED,
    ),
)
HOSTS: dict[str, Host] = {row.name: row for row in _ROWS}
"""The table, by `model.name`. Tests add a host of their own for a while, with `support.toy_host.toy_host_known`."""


class _SectionOfTheTable:
    """Validates a `model` section as that of the host it names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        sections: Any = reduce(operator.or_, (host.section for host in HOSTS.values()))
        return handler.generate_schema(Annotated[sections, Field(discriminator="name")])


AnyHostSection = Annotated[HostSection, _SectionOfTheTable()]
