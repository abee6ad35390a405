"""Keys of a recipe that are fine alone and cannot stand together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from selfalign_cli.recipe.schema import CameraSection, Recipe, VsrnSection


class Disagreement(NamedTuple):
    """Two keys, each fine alone, that cannot stand together.

    Attributes:
        path: the key to change, as `section.key`.
        message: what is wrong, in plain words.
        because: the other keys that take part; if one of them is itself at fault, the disagreement is not reported.
    """

    path: str
    message: str
    because: tuple[str, ...]


def disagreements(recipe: Recipe) -> Iterator[Disagreement]:
    """Check the keys of a recipe against each other (each key alone was checked by its section)."""
    epochs, warmup = recipe.optim.epochs, recipe.loss.ranking.warmup_epochs
    if warmup > epochs:
        message = f"expected at most the {epochs} of optim.epochs, got {warmup}"
        yield Disagreement("loss.ranking.warmup_epochs", message, ("optim.epochs",))
    if recipe.data.pad_to_max_words and recipe.data.max_words is None:
        yield Disagreement("data.pad_to_max_words", "needs a width: set data.max_words", ("data.max_words",))
    if isinstance(recipe.model, VsrnSection):
        yield from _vsrn_disagreements(recipe)
    else:
        yield from _camera_disagreements(recipe, recipe.model)


def _vsrn_disagreements(recipe: Recipe) -> Iterator[Disagreement]:
    because = ("model.name",)
    if recipe.data.vocab is None:
        yield Disagreement("data.vocab", "vsrn needs a vocabulary (selfalign build-vocab makes one)", because)
    if recipe.loss.diversity is not None:
        yield Disagreement("loss.diversity", "only camera has views to keep apart (remove this section)", because)
    if recipe.optim.bert_learning_rate is not None:
        yield Disagreement("optim.bert_learning_rate", "vsrn has no BERT (remove this key)", because)
    if recipe.data.cache_words:
        yield Disagreement("data.cache_words", "vsrn has no BERT (remove this key)", because)


def _camera_disagreements(recipe: Recipe, model: CameraSection) -> Iterator[Disagreement]:
    because = ("model.name",)
    if recipe.data.max_words is None:
        yield Disagreement("data.max_words", "camera needs a limit (32 in the published settings)", because)
    if recipe.loss.captioning is not None:
        yield Disagreement("loss.captioning", "only vsrn has a caption generator (remove this section)", because)
    if recipe.optim.captioner_twice:
        yield Disagreement("optim.captioner_twice", "only vsrn has a caption generator (remove this key)", because)
    if model.embed_dim % model.heads:
        message = f"expected a divisor of the {model.embed_dim} of model.embed_dim, got {model.heads}"
        yield Disagreement("model.heads", message, ("model.embed_dim",))
    if recipe.loss.ranking.similarity == "order" and model.views > 1:
        message = f"order compares single vectors, and model.views is {model.views} (write dot)"
        yield Disagreement("loss.ranking.similarity", message, ("model.views",))
    if recipe.optim.bert_learning_rate is not None and not model.finetune:
        message = "BERT is frozen (set model.finetune: true, or remove this key)"
        yield Disagreement("optim.bert_learning_rate", message, ("model.finetune",))
    if recipe.data.cache_words:
        yield from _cache_disagreements(recipe, model)


def _cache_disagreements(recipe: Recipe, model: CameraSection) -> Iterator[Disagreement]:
    """Token states can be kept only if no step changes them and nothing reads those of padded places."""
    unmasked = [f"padding.{key}" for key, masked in recipe.padding if not masked]
    if model.finetune:
        message = "BERT is trained, so its states change (set model.finetune: false)"
        yield Disagreement("data.cache_words", message, ("model.finetune",))
    elif not model.bert_eval_mode:
        message = "BERT's dropout changes its states in every step (set model.bert_eval_mode: true)"
        yield Disagreement("data.cache_words", message, ("model.bert_eval_mode", "compat"))
    elif unmasked:
        message = f"states of padded places are read, and only real ones are kept (set {unmasked[0]}: true)"
        yield Disagreement("data.cache_words", message, (*unmasked, "compat"))
