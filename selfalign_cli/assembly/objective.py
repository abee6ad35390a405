"""The whole training loss on one screen: every term, its weight, what it reads (MODELS.md 2.4 and 3.4).

This is the only list of terms. A term is a function or a module in `losses`, and its entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from selfalign_cli.assembly.options import options_of
from selfalign_cli.losses.captioning import generator_loss
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.context import context_loss
from selfalign_cli.losses.contrastive import InfoNce, PairwiseSigmoid
from selfalign_cli.losses.diversity import diversity_loss
from selfalign_cli.losses.objective import Objective, Term
from selfalign_cli.losses.ranking import ranking_loss
from selfalign_cli.models.parts.captioner import CaptionGenerator
from selfalign_cli.recipe.schema import LossSection, Recipe

PICTURES = {"index": "batch.images.index"}
"""Read by terms in which two captions of a picture are not each other's negatives."""


def build_objective(recipe: Recipe, *, vocab_size: int | None) -> Objective:
    """Construct the training loss that a recipe describes, with fresh prototypes and caption generator."""
    return Objective([_ranking(recipe.loss), *_selfalign_terms(recipe), *_host_terms(recipe, vocab_size)])


def _ranking(loss: LossSection) -> Term:
    """The loss on similarities: the hinge, whose warm-up counts all violations, or one with a temperature."""
    section = loss.ranking
    elsewhere = ("kind", "weight", "hardest_negative", "warmup_epochs", "warmup_mode")
    hinge, infonce, sigmoid = options_of(section, ranking_loss, InfoNce, PairwiseSigmoid, elsewhere=elsewhere)
    function: Callable[..., Tensor] = ranking_loss
    settings: dict[str, Any] = {**hinge, "mode": "hardest" if section.hardest_negative else "sum"}
    if section.kind != "hinge":
        function, settings = InfoNce(**infonce) if section.kind == "infonce" else PairwiseSigmoid(**sigmoid), {}
    return Term(
        "ranking",
        weight=section.weight,
        weight_key="loss.ranking.weight",
        function=function,
        reads={
            "image_pooled": "images.vectors.pooled",
            "image_shared": "images.vectors.shared",
            "text_pooled": "texts.vectors.pooled",
            "text_shared": "texts.vectors.shared",
            **({} if loss.same_image_negatives else PICTURES),
        },
        settings=settings,
        warmup={"mode": section.warmup_mode} if section.kind == "hinge" else {},
    )


def _selfalign_terms(recipe: Recipe) -> Iterator[Term]:
    """The concept loss, and the context losses of both sides."""
    concept, context = recipe.loss.concept, recipe.loss.context
    if recipe.selfalign.enabled and concept.enabled:
        (options,) = options_of(concept, ConceptAlignment, elsewhere=("enabled", "weight", "frozen_epochs"))
        yield Term(
            "concept",
            weight=concept.weight,
            weight_key="loss.concept.weight",
            function=ConceptAlignment(recipe.embed_dim, **options),
            reads={
                "regions": "images.host.concepts",
                "region_mask": "images.host.mask",
                "words": "texts.host.concepts",
                "word_mask": "texts.host.mask",
            },
        )
    if recipe.selfalign.enabled and context.enabled:
        elsewhere = ("enabled", "weight", "image_temperature", "text_temperature")
        (options,) = options_of(context, context_loss, elsewhere=elsewhere)
        for name, keys, query, temperature in (
            ("context_image", "images", "texts", context.image_temperature),
            ("context_text", "texts", "images", context.text_temperature),
        ):
            yield Term(
                name,
                weight=context.weight / 2,
                weight_key="loss.context.weight",
                function=context_loss,
                reads={
                    "guide": f"{query}.context.guide",
                    "locals_": f"{keys}.context.locals",
                    "mask": f"{keys}.context.mask",
                    **({} if recipe.loss.same_image_negatives else PICTURES),
                },
                settings={**options, "temperature": temperature},
            )


def _host_terms(recipe: Recipe, vocab_size: int | None) -> Iterator[Term]:
    """The view penalty, and the loss of the caption generator."""
    diversity, captioning = recipe.loss.diversity, recipe.loss.captioning
    if diversity is not None:
        (options,) = options_of(diversity, diversity_loss, elsewhere=("weight",))
        yield Term(
            "diversity",
            weight=diversity.weight,
            weight_key="loss.diversity.weight",
            function=diversity_loss,
            reads={"view_logits": "images.host.extras.view_logits", "mask": "images.host.mask"},
            settings=options,
        )
    if captioning is not None:
        assert vocab_size is not None
        (options,) = options_of(captioning, CaptionGenerator, elsewhere=("weight",))
        yield Term(
            "captioning",
            weight=captioning.weight,
            weight_key="loss.captioning.weight",
            function=generator_loss,
            reads={
                "regions": "images.host.extras.regions",
                "region_mask": "images.host.mask",
                "ids": "batch.texts.ids",
                "mask": "batch.texts.mask",
            },
            settings={"captioner": CaptionGenerator(recipe.embed_dim, vocab_size, **options)},
            per_pair=True,
        )
