"""What `train` says about the data before the first step: nothing is wrong, but much may be lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from selfalign_cli.assembly.split import message_about_cut
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.training.trainer import TrainingData

MANY_UNKNOWN = 0.1
"""Fraction of unknown words above which the vocabulary was probably built from other captions."""


def notes_on_data(recipe: Recipe, data: TrainingData) -> Iterator[str]:
    """Yield a message for each of: captions that are cut, many unknown words, pictures of a single region."""
    for split, tokens in ((data.pairs.split, data.pairs.tokens), (data.dev.split, data.dev.tokens)):
        cut = message_about_cut(tokens, split=split, max_words=recipe.data.max_words)
        if cut:
            yield cut
    yield from _unknown_words(data)
    yield from _single_regions(recipe, data)


def _unknown_words(data: TrainingData) -> Iterator[str]:
    captions, tokens = data.language.captions, data.pairs.tokens
    marks = 2 * len(tokens)
    unknown = np.count_nonzero(tokens.ids == captions.unknown) / max(1, len(tokens.ids) - marks)
    if unknown > MANY_UNKNOWN:
        split = data.pairs.split
        yield f"{unknown:.0%} of the words of split {split} are unknown to the vocabulary: is it that of this data?"


def _single_regions(recipe: Recipe, data: TrainingData) -> Iterator[str]:
    """Divided by the length of one number, a number is 1 or -1."""
    if getattr(recipe.model, "normalize_over", None) != "places":
        return
    file = data.pairs.file
    counts = np.diff(file.facts.offsets)
    single = int(np.count_nonzero(counts == 1))
    if single:
        yield (
            f"{single:,} of the {len(counts):,} pictures of {file.path} have a single region, and "
            "model.normalize_over is places: each number of such a picture becomes 1 or -1, and recall falls towards "
            "chance; set model.normalize_over=embedding, or use features with several regions"
        )
