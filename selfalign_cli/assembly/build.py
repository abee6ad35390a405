"""The only place where a recipe meets constructors."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from selfalign_cli.assembly.options import options_of
from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder
from selfalign_cli.models.hosts.vse_infty import (
    VseInftyBertTextEncoder,
    VseInftyImageEncoder,
    VseInftyTextEncoder,
)
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.models.selfalign import SelfAlign
from selfalign_cli.models.token_encoder import TokenEncoder
from selfalign_cli.recipe.hosts import BertSection
from selfalign_cli.recipe.schema import Recipe

ENCODERS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "vsrn": (VsrnImageEncoder, VsrnTextEncoder),
    "camera": (CameraImageEncoder, CameraTextEncoder),
    "vse_infty": (VseInftyImageEncoder, VseInftyTextEncoder),
    "vse_infty_bert": (VseInftyImageEncoder, VseInftyBertTextEncoder),
}
"""Image encoder and text encoder of each host in `recipe.hosts.HOSTS`."""


def build_model(recipe: Recipe, *, feature_dim: int, vocab_size: int | None, bert: nn.Module | None) -> RetrievalModel:
    """Construct the retrieval model that a recipe describes, with fresh weights.

    Args:
        recipe: the recipe.
        feature_dim: F of the feature file.
        vocab_size: number of words, for a host whose captions are words.
        bert: token encoder, for a host whose captions are BERT's word pieces.
    """
    assert vocab_size is not None or recipe.host.captions != "words"
    options = {**dict(recipe.model), "embed_dim": recipe.embed_dim}
    del options["name"]
    token_encoder = None
    if isinstance(recipe.model, BertSection):
        assert bert is not None
        del options["bert"]
        settings = {key: options.pop(key) for key in ("finetune", "bert_eval_mode")}
        padding_is_read = not all(dict(recipe.padding).values())
        token_encoder = TokenEncoder(bert, **settings, padding_is_read=padding_is_read)
    facts = {
        "feature_dim": feature_dim,
        "vocab_size": vocab_size,
        "token_dim": token_encoder.width if token_encoder is not None else None,
        "for_selfalign": recipe.selfalign.enabled,
        **dict(recipe.padding),
    }
    image, text = _build_encoders(*ENCODERS[recipe.model.name], options, facts)
    return RetrievalModel(image, text, _build_selfalign(recipe), token_encoder)


def _build_encoders(
    image: type[nn.Module], text: type[nn.Module], options: dict[str, Any], facts: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """Construct two encoders; each takes those facts and options that it names.

    Args:
        image, text: the classes.
        options: the keys of the `model` section; every one has to reach an encoder.
        facts: what else an encoder may want to know: sizes, whether SelfAlign is on top, how padding is treated.
    """
    named = [set(inspect.signature(kind).parameters) for kind in (image, text)]
    unused = options.keys() - set().union(*named)
    if unused:
        raise TypeError(f"neither {image.__name__} nor {text.__name__} takes {', '.join(sorted(unused))}")
    given = {**facts, **options}
    first, second = ({key: value for key, value in given.items() if key in names} for names in named)
    return image(**first), text(**second)


def _build_selfalign(recipe: Recipe) -> SelfAlign | None:
    section = recipe.selfalign
    if not section.enabled or not (section.context_embedding or recipe.loss.context.enabled):
        return None
    (options,) = options_of(section, SelfAlign, elsewhere=("enabled",))
    return SelfAlign(
        recipe.embed_dim,
        **options,
        context_first=recipe.host.context_first,
        masked_means=recipe.padding.masked_means,
        masked_batchnorm=recipe.padding.masked_batchnorm,
        masked_keys=recipe.padding.masked_attention,
    )
