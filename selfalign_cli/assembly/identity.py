"""Which model it is, and what it was trained on: facts that are stored beside its vectors."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign_cli.assembly.checkpoint import hash_of_state
from selfalign_cli.assembly.language import CaptionEncoder
from selfalign_cli.data.features.origin import Extractor
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.compat import compat_label
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.similarity import Similarity


@dataclass(frozen=True)
class Identity:
    """What decides the vectors of a model: models of equal identity give equal vectors.

    Attributes:
        weights: SHA-256 (hex) over names, types, shapes and bits of all weights.
        recipe: eight hexadecimal digits, from `recipe_hash`.
        vocabulary: SHA-256 (hex) over all that decides the token ids of a text.
        compat: the preset and the keys that depart from it, e.g. `corrected`.
        similarity: how pairs are scored, `dot` or `order`.
    """

    weights: str
    recipe: str
    vocabulary: str
    compat: str
    similarity: Similarity


@dataclass(frozen=True)
class TrainedOn:
    """The features that a model was trained on.

    Attributes:
        features: path of the feature file; empty for an imported checkpoint that names none.
        content_hash: SHA-256 (hex) of its content.
        extractor: what made its regions; None where it is not known.
    """

    features: str
    content_hash: str
    extractor: Extractor | None = None


def identity_of(recipe: Recipe, model: RetrievalModel, captions: CaptionEncoder) -> Identity:
    """The identity of a model that encodes by a recipe."""
    return Identity(
        weights=hash_of_state(model.state_dict()),
        recipe=recipe_hash(recipe),
        vocabulary=captions.content_hash,
        compat=compat_label(recipe),
        similarity=recipe.loss.ranking.similarity,
    )
