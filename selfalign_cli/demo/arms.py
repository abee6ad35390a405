"""The arms of the demo: which shipped recipe each one is, and how a smaller demo shortens it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.shipped import shipped_recipe


@dataclass(frozen=True)
class Arm:
    """A model that is trained and compared.

    Attributes:
        name: of its folder and files.
        label: in tables.
        ending: suffix of its recipe, `{model}_{data}{ending}.yaml`.
        overrides: keys that differ from that recipe.
    """

    name: str
    label: str
    ending: str = ""
    overrides: tuple[str, ...] = ()


BASELINE = Arm("baseline", "baseline", "_baseline")
SELFALIGN = Arm("selfalign", "SelfAlign")
EQUAL_TIME = Arm("baseline_equal_time", "baseline, equal time", "_baseline_equal_time")
ARMS = (BASELINE, SELFALIGN, EQUAL_TIME)
OWN_ARMS = (BASELINE, SELFALIGN)
"""On a user's own pictures nobody has measured how many epochs are equal time."""

NO_CONCEPT, NO_CONTEXT = "loss.concept.enabled=false", "loss.context.enabled=false"
ABLATIONS = (
    Arm("context_embedding_alone", "context embedding alone", overrides=(NO_CONCEPT, NO_CONTEXT)),
    Arm("no_concept_loss", "without concept loss", overrides=(NO_CONCEPT,)),
    Arm("no_context_loss", "without context loss", overrides=(NO_CONTEXT,)),
    Arm("no_context_embedding", "without context embedding", overrides=("selfalign.context_embedding=false",)),
)


@dataclass(frozen=True)
class Contrast:
    """A difference that the demo states: `arm` minus `reference`, seed by seed.

    Attributes:
        arm: the arm of interest.
        reference: the arm it is compared with.
        label: in tables.
    """

    arm: Arm
    reference: Arm
    label: str


def contrasts(arms: Sequence[Arm]) -> list[Contrast]:
    """SelfAlign against the baselines, and every ablation against SelfAlign."""
    equal_time = Contrast(SELFALIGN, EQUAL_TIME, "SelfAlign − baseline, equal time")
    return [
        Contrast(SELFALIGN, BASELINE, "SelfAlign − baseline, equal epochs"),
        *([equal_time] if EQUAL_TIME in arms else []),
        *(Contrast(arm, SELFALIGN, f"{arm.label} − SelfAlign") for arm in arms if arm in ABLATIONS),
    ]


def arm_recipe(
    arm: Arm,
    model: str,
    *,
    seed: int,
    folder: Path,
    features: Path,
    text: Path,
    epochs: int | None = None,
    data: str = "scenes",
) -> Recipe:
    """Load the recipe of an arm.

    Args:
        arm: the arm.
        model: the host.
        seed: run.seed.
        folder: run.dir.
        features: the feature file.
        text: the vocabulary, or the BERT folder for a host that reads word pieces.
        epochs: epochs of the SelfAlign arm, for a smaller demo: every schedule is shortened in proportion. None for
            the recipe as shipped.
        data: which of the shipped recipes: `scenes`, or `own` for a user's pictures.
    """
    text_key = "data.vocab" if HOSTS[model].captions == "words" else "model.bert"
    path = shipped_recipe(f"{model}_{data}{arm.ending}.yaml")
    overrides = [
        f"run.dir={json.dumps(str(folder))}",
        f"run.seed={seed}",
        f"data.features={json.dumps(str(features))}",
        f"{text_key}={json.dumps(str(text))}",
        *arm.overrides,
    ]
    recipe = load_recipe(path, overrides)
    if epochs is None:
        return recipe
    shipped = load_recipe(shipped_recipe(f"{model}_{data}.yaml")).optim.epochs
    return load_recipe(path, [*overrides, *shortened(recipe, Fraction(epochs, shipped))])


def shortened(recipe: Recipe, factor: Fraction) -> list[str]:
    """Overrides that shorten a schedule by a factor, in whole epochs."""
    epochs = max(1, math.floor(recipe.optim.epochs * factor))
    return [
        f"optim.epochs={epochs}",
        f"optim.decay_every={max(1, round(recipe.optim.decay_every * factor))}",
        f"loss.ranking.warmup_epochs={min(epochs, math.ceil(recipe.loss.ranking.warmup_epochs * factor))}",
    ]
