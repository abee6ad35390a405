"""Parameter groups, the optimizer, and the oddities of the published training programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.schema import Recipe

MODEL, TOKEN_ENCODER = "model", "bert"
NOT_DECAYED = ("concept", "ranking")  # prototypes, which are put to unit length in each step; temperatures


@dataclass(frozen=True)
class ParameterGroups:
    """The parameters an optimizer steps, each once.

    Attributes:
        by_name: `model`; each module of the objective by its name there; `bert`, empty unless it is fine-tuned.
    """

    by_name: Mapping[str, Sequence[nn.Parameter]]

    def all(self) -> list[nn.Parameter]:
        """Every parameter, in a fixed order."""
        return self.of(self.by_name)

    def of(self, names: Collection[str]) -> list[nn.Parameter]:
        """The parameters of the named groups; names of groups that do not exist are ignored."""
        return [parameter for name, group in self.by_name.items() if name in names for parameter in group]


@dataclass(frozen=True)
class TrainingQuirks:
    """How a step of the published programs differs from a plain one, by names of parameter groups.

    Attributes:
        stepped_twice: groups that are counted, clipped and stepped twice (O1: the released parameter list names them
            twice).
        frozen: groups whose gradient counts in clipping and is dropped then (M9).
    """

    stepped_twice: Collection[str] = ()
    frozen: Collection[str] = ()


NO_QUIRKS = TrainingQuirks()


def parameter_groups(model: RetrievalModel, objective: Objective) -> ParameterGroups:
    """Sort trainable parameters into groups."""
    bert = list(model.token_encoder.parameters()) if model.token_encoder is not None else []
    of_bert = {id(parameter) for parameter in bert}
    groups = {MODEL: [parameter for parameter in model.parameters() if id(parameter) not in of_bert]}
    groups.update({name: list(module.parameters()) for name, module in objective.named_children()})
    groups[TOKEN_ENCODER] = bert
    return ParameterGroups({name: [p for p in group if p.requires_grad] for name, group in groups.items()})


def build_optimizer(recipe: Recipe, groups: ParameterGroups) -> torch.optim.Adam:
    """Adam with betas 0.9/0.999 and eps 1e-8 (MODELS.md section 7), or AdamW where weights decay.

    BERT has its own step size. Prototypes and temperatures do not decay.
    """
    optim = recipe.optim
    bert, spared = groups.of([TOKEN_ENCODER]), groups.of(NOT_DECAYED) if optim.weight_decay else []
    named_apart = {TOKEN_ENCODER, *(NOT_DECAYED if optim.weight_decay else ())}
    sections = [_section(groups.of(set(groups.by_name) - named_apart), optim.learning_rate)]
    if bert:
        sections.append(_section(bert, optim.bert_learning_rate or optim.learning_rate))
    if spared:
        sections.append({**_section(spared, optim.learning_rate), "weight_decay": 0.0})
    if optim.weight_decay:
        return torch.optim.AdamW(sections, lr=optim.learning_rate, weight_decay=optim.weight_decay, fused=True)
    return torch.optim.Adam(sections, lr=optim.learning_rate, fused=True)


def _section(parameters: Sequence[nn.Parameter], rate: float) -> dict[str, Any]:
    return {"params": list(parameters), "lr": rate, "initial_lr": rate}


def training_quirks(recipe: Recipe, *, epoch: int) -> TrainingQuirks:
    """Return the published oddities that a recipe asks for in an epoch, counted from 0."""
    return TrainingQuirks(
        stepped_twice=("captioner",) if recipe.optim.captioner_twice else (),
        frozen=("concept",) if epoch < recipe.loss.concept.frozen_epochs else (),
    )
