"""The terms of the loss have the recipe's settings; names in checkpoints are frozen."""

from __future__ import annotations

import pytest
import torch
from pydantic import BaseModel
from support.tiny_models import CAMERA, VSRN, build_tiny

from selfalign_cli.assembly.objective import build_objective
from selfalign_cli.assembly.options import options_of
from selfalign_cli.recipe import schema
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.recipe.schema import Recipe, Section

HOSTS = pytest.mark.parametrize("text", [VSRN, CAMERA], ids=["vsrn", "camera"])


def sections(value: BaseModel) -> dict[str, Section]:
    return {name: section for name, section in value if isinstance(section, Section)}


@HOSTS
def test_every_weight_of_the_recipe_is_that_of_a_term(text: str) -> None:
    weighted = {
        f"loss.{name}.weight"
        for name, section in sections(parse_recipe(text, [], "tiny").loss).items()
        if "weight" in type(section).model_fields
    }
    assert {term.weight_key for term in build_tiny(text).objective.terms.values()} == weighted


@HOSTS
def test_a_term_names_the_key_of_its_weight(text: str) -> None:
    before = build_tiny(text).objective.terms
    for name, term in before.items():
        if term.weight_key is not None:
            doubled = build_tiny(text, f"{term.weight_key}={2 * value_at(build_tiny(text).recipe, term.weight_key)}")
            changed = {other for other, now in doubled.objective.terms.items() if now.weight != before[other].weight}
            assert doubled.objective.terms[name].weight == 2 * term.weight
            assert {before[other].weight_key for other in changed} == {term.weight_key}


def value_at(recipe: Recipe, path: str) -> float:
    value: object = recipe
    for name in path.split("."):
        value = getattr(value, name)
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize(
    ("text", "override", "term", "setting", "value"),
    [
        (VSRN, "loss.ranking.margin=0.3", "ranking", "margin", 0.3),
        (VSRN, "loss.ranking.hardest_negative=false", "ranking", "mode", "sum"),
        (VSRN, "loss.ranking.reduction=mean", "ranking", "reduction", "mean"),
        (VSRN, "loss.ranking.similarity=order", "ranking", "similarity", "order"),
        (VSRN, "loss.context.image_temperature=0.3", "context_image", "temperature", 0.3),
        (VSRN, "loss.context.text_temperature=0.3", "context_text", "temperature", 0.3),
        (VSRN, "loss.context.negatives=null", "context_image", "negatives", None),
        (VSRN, "loss.context.exclude_own=false", "context_text", "exclude_own", False),
        (CAMERA, "loss.diversity.reduction=mean", "diversity", "reduction", "mean"),
    ],
)
def test_terms_have_the_settings_of_the_recipe(
    text: str, override: str, term: str, setting: str, value: object
) -> None:
    assert build_tiny(text).objective.terms[term].settings[setting] != value
    assert build_tiny(text, override).objective.terms[term].settings[setting] == value


@pytest.mark.parametrize(
    ("override", "module", "attribute", "value"),
    [
        ("loss.concept.temperature=0.3", "concept", "temperature", 0.3),
        ("loss.concept.image_gradient=true", "concept", "image_gradient", True),
        ("loss.captioning.max_len=9", "captioner", "max_len", 9),
    ],
)
def test_modules_have_the_settings_of_the_recipe(override: str, module: str, attribute: str, value: object) -> None:
    assert getattr(build_tiny(VSRN, override).objective.get_submodule(module), attribute) == value


def test_same_image_negatives_leave_the_pictures_unread() -> None:
    def readers(*overrides: str) -> set[str]:
        terms = build_tiny(VSRN, *overrides).objective.terms
        return {name for name, term in terms.items() if "batch.images.index" in term.reads.values()}

    assert readers() == {"ranking", "context_image", "context_text"}
    assert readers("loss.same_image_negatives=true") == set()


GENERATOR = [
    "region_map.weight",
    "region_map.bias",
    "encoder.weight_ih_l0",
    "encoder.weight_hh_l0",
    "encoder.bias_ih_l0",
    "encoder.bias_hh_l0",
    "embed.weight",
    "attention.weight",
    "attention.bias",
    "attention_score.weight",
    "decoder.weight_ih",
    "decoder.weight_hh",
    "decoder.bias_ih",
    "decoder.bias_hh",
    "out.weight",
    "out.bias",
]


@pytest.mark.parametrize(
    ("text", "overrides", "names"),
    [
        (VSRN, (), ["concept.prototypes", *(f"captioner.{name}" for name in GENERATOR)]),
        (VSRN, ("loss.concept.weight=0.0",), ["concept.prototypes", *(f"captioner.{name}" for name in GENERATOR)]),
        (VSRN, ("loss.concept.enabled=false",), [f"captioner.{name}" for name in GENERATOR]),
        (VSRN, ("loss.captioning=null",), ["concept.prototypes"]),
        (CAMERA, (), ["concept.prototypes"]),
        (CAMERA, ("selfalign.enabled=false",), []),
    ],
)
def test_checkpoints_keep_the_names_of_the_weights(text: str, overrides: tuple[str, ...], names: list[str]) -> None:
    """And their order, by which the optimizer's state knows them: `--resume` takes checkpoints of older releases."""
    objective = build_tiny(text, *overrides).objective
    assert list(objective.state_dict()) == names
    assert [name for name, _ in objective.named_parameters()] == names


def test_a_key_without_an_argument_is_refused() -> None:
    def function(margin: float, reduction: str) -> None: ...

    section = schema.RankingSection()
    others = set(schema.RankingSection.model_fields) - {"margin", "reduction"}
    assert options_of(section, function, elsewhere=others) == [{"margin": 0.2, "reduction": "sum"}]
    for wrong in (others - {"similarity"}, others | {"margin"}, others | {"marign"}):
        with pytest.raises(TypeError, match="RankingSection: no argument takes"):
            options_of(section, function, elsewhere=wrong)


def test_prototypes_and_generator_draw_their_start_values_in_this_order() -> None:
    """A seed gives the weights it always gave."""
    torch.manual_seed(5)
    expected = torch.empty(7, 8).uniform_(-(8**-0.5), 8**-0.5)
    torch.manual_seed(5)
    objective = build_objective(parse_recipe(VSRN, [], "tiny"), vocab_size=30)
    assert torch.equal(objective.get_parameter("concept.prototypes"), expected)
