"""The only place where a recipe meets constructors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.objective import ContextOptions, LossWeights, Objective, RankingOptions
from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.parts.captioner import CaptionGenerator
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.models.selfalign import SelfAlign
from selfalign_cli.models.token_encoder import TokenEncoder
from selfalign_cli.recipe.hosts import BertSection
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.section import Section

ENCODERS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "vsrn": (VsrnImageEncoder, VsrnTextEncoder),
    "camera": (CameraImageEncoder, CameraTextEncoder),
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
    options = dict(recipe.model)
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


def build_objective(recipe: Recipe, *, vocab_size: int | None) -> Objective:
    """Construct the training loss that a recipe describes, with fresh prototypes and caption generator."""
    loss, dim = recipe.loss, recipe.model.embed_dim
    concept_on = recipe.selfalign.enabled and loss.concept.enabled
    context_on = recipe.selfalign.enabled and loss.context.enabled
    concept = None
    if concept_on:
        concept = ConceptAlignment(dim, **_options(loss.concept, ConceptAlignment))
    captioner = None
    if loss.captioning is not None:
        assert vocab_size is not None
        captioner = CaptionGenerator(dim, vocab_size, **_options(loss.captioning, CaptionGenerator))
    return Objective(
        LossWeights(
            concept=loss.concept.weight if concept_on else 0.0,
            context=loss.context.weight if context_on else 0.0,
            captioning=loss.captioning.weight if loss.captioning is not None else 0.0,
            diversity=loss.diversity.weight if loss.diversity is not None else 0.0,
        ),
        ranking=RankingOptions(**_options(loss.ranking, RankingOptions)),
        context=ContextOptions(**_options(loss.context, ContextOptions)),
        concept=concept,
        captioner=captioner,
        same_image_negatives=loss.same_image_negatives,
        diversity_reduction=loss.diversity.reduction if loss.diversity is not None else "sum",
    )


@dataclass(frozen=True)
class ParameterGroups:
    """The parameters an optimizer steps, each once.

    Attributes:
        main: encoders, SelfAlign and prototypes.
        captioner: the caption generator; published behaviour steps these twice (O1).
        bert: BERT, when it is fine-tuned.
    """

    main: list[nn.Parameter]
    captioner: list[nn.Parameter]
    bert: list[nn.Parameter]

    def all(self) -> list[nn.Parameter]:
        """Every parameter, in a fixed order."""
        return [*self.main, *self.captioner, *self.bert]


def parameter_groups(model: RetrievalModel, objective: Objective) -> ParameterGroups:
    """Sort trainable parameters into groups."""
    bert = list(model.token_encoder.parameters()) if model.token_encoder is not None else []
    captioner = list(objective.captioner.parameters()) if objective.captioner is not None else []
    elsewhere = {id(parameter) for parameter in [*bert, *captioner]}
    main = [p for p in [*model.parameters(), *objective.parameters()] if id(p) not in elsewhere and p.requires_grad]
    return ParameterGroups(main, captioner, [p for p in bert if p.requires_grad])


def build_optimizer(recipe: Recipe, groups: ParameterGroups) -> torch.optim.Adam:
    """Adam with betas 0.9/0.999, eps 1e-8 and no decay (MODELS.md section 7); BERT has its own step size."""
    rate = recipe.optim.learning_rate
    sections: list[dict[str, Any]] = [{"params": [*groups.main, *groups.captioner], "lr": rate, "initial_lr": rate}]
    if groups.bert:
        bert_rate = recipe.optim.bert_learning_rate or rate
        sections.append({"params": groups.bert, "lr": bert_rate, "initial_lr": bert_rate})
    return torch.optim.Adam(sections, lr=rate, fused=True)


def _build_selfalign(recipe: Recipe) -> SelfAlign | None:
    section = recipe.selfalign
    if not section.enabled or not (section.context_embedding or recipe.loss.context.enabled):
        return None
    return SelfAlign(
        recipe.model.embed_dim,
        **_options(section, SelfAlign),
        context_first=recipe.host.context_first,
        masked_means=recipe.padding.masked_means,
        masked_batchnorm=recipe.padding.masked_batchnorm,
        masked_keys=recipe.padding.masked_attention,
    )


def _options(section: Section, constructor: Callable[..., object]) -> dict[str, Any]:
    """The keys of a section that a constructor takes; a test checks that no key is left over."""
    parameters = inspect.signature(constructor).parameters
    return {key: value for key, value in section if key in parameters}
