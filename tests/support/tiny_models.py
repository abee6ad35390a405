"""Every encoder at toy size, built through a recipe, and pairs of chosen region counts and caption lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.objective import build_objective
from selfalign_cli.assembly.optimizer import ParameterGroups, parameter_groups
from selfalign_cli.encodings import ImageBatch, PairBatch, TextBatch
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.bert import seeded_bert
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.recipe.schema import Recipe

FEATURES, VOCABULARY, DIM = 6, 30, 8
COMMON = """
run: {dir: runs/tiny}
data: {features: tiny.h5, %s}
model: {%s}
loss: {concept: {prototypes: 7}, context: {negatives: 5}, %s}
"""
VSRN = COMMON % (
    "vocab: tiny.json",
    "name: vsrn, embed_dim: 8, word_dim: 5, graph_layers: 2, final_batchnorm: true",
    "captioning: {hidden_dim: 9, word_dim: 4, max_len: 8, dropout: 0.0}",
)
CAMERA = COMMON % ("max_words: 16", "name: camera, embed_dim: 8, heads: 2, views: 3, bert: tiny", "diversity: {}")
VSE_INFTY = COMMON % ("vocab: tiny.json", "name: vse_infty, embed_dim: 8, word_dim: 5", "")
VSE_INFTY_BERT = COMMON % ("max_words: 16", "name: vse_infty_bert, embed_dim: 8, bert: tiny", "")
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@dataclass(frozen=True)
class Tiny:
    """A model and its training loss; parameters that start constant have random values."""

    recipe: Recipe
    model: RetrievalModel
    objective: Objective

    @property
    def groups(self) -> ParameterGroups:
        return parameter_groups(self.model, self.objective)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name, of the model and of the loss."""
        parts = (("model", self.model), ("objective", self.objective))
        return {
            f"{part}.{name}": value
            for part, module in parts
            for name, value in module.named_parameters()
            if value.requires_grad
        }

    def train(self, mode: bool = True) -> Tiny:
        self.model.train(mode)
        self.objective.train(mode)
        return self

    def losses(self, batch: PairBatch, *, warmup: bool = False) -> dict[str, Tensor]:
        images, texts = self.model.encode_image(batch.images), self.model.encode_text(batch.texts)
        terms: dict[str, Tensor] = self.objective(images, texts, batch, warmup=warmup)
        return terms


def build_tiny(text: str, *overrides: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tiny:
    """Build the model of a recipe. Seeds the global generator."""
    recipe = parse_recipe(text, overrides, "tiny.yaml")
    torch.manual_seed(seed)
    bert = seeded_bert(BERT, seed=seed + 1) if recipe.host.captions == "pieces" else None
    words = VOCABULARY if recipe.host.captions == "words" else None
    tiny = Tiny(
        recipe,
        build_model(recipe, feature_dim=FEATURES, vocab_size=words, bert=bert).to(dtype),
        build_objective(recipe, vocab_size=words).to(dtype),
    )
    shake(tiny.model, seed=seed)
    return tiny


def shake(module: nn.Module, seed: int = 0) -> None:
    """Move parameters and running values, BERT's aside, off the values they start at, some of which are constant."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and ".bert." not in name:
            value.data.add_(0.1 + 0.2 * torch.rand(value.shape, generator=generator).to(value.dtype))


def pictures(counts: Sequence[int], *, width: int | None = None, first: int = 0, filler: float = 0.0) -> ImageBatch:
    """Pictures number first, first + 1, … with so many regions each; picture i is the same in every batch.

    Args:
        counts: regions of each picture.
        width: padded region count; None for the largest.
        first: number of the first picture.
        filler: what stands at padded positions.
    """
    parts = [_picture(first + row, count) for row, count in enumerate(counts)]
    mask = torch.arange(width or max(counts)) < torch.tensor(counts).unsqueeze(1)
    features = torch.full((*mask.shape, FEATURES), filler)
    boxes = torch.full((*mask.shape, 4), filler)
    for row, (count, (own, own_boxes)) in enumerate(zip(counts, parts, strict=True)):
        features[row, :count], boxes[row, :count] = own, own_boxes
    index = torch.arange(first, first + len(counts))
    return ImageBatch(features, mask, index, boxes, torch.full((len(counts), 2), 100.0))


def _picture(number: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 + number)
    features = torch.randn(count, FEATURES, generator=generator)
    corner = 50 * torch.rand(count, 2, generator=generator)
    sides = 5 + 40 * torch.rand(count, 2, generator=generator)
    return features, torch.cat([corner, corner + sides], dim=-1)


def captions(lengths: Sequence[int], *, width: int | None = None, first: int = 0) -> TextBatch:
    """Captions number first, first + 1, … of so many tokens each, start and end marks included."""
    mask = torch.arange(width or max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(200 + first + row)
        words = torch.randint(4, VOCABULARY, (length - 2,), generator=generator).tolist()
        ids[row, :length] = torch.tensor([1, *words, 2])
    return TextBatch(ids, mask)


def pairs(
    counts: Sequence[int], lengths: Sequence[int], *, regions: int | None = None, words: int | None = None
) -> PairBatch:
    """Pairs of pictures and captions, padded to given widths."""
    return PairBatch(
        pictures(counts, width=regions), captions(lengths, width=words), torch.arange(len(counts), dtype=torch.long)
    )
