"""Recipe sections and constructors say the same: no key is left over, no option stays unreachable."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
from support.tiny_models import CAMERA, VSRN, build_tiny
from support.toy_host import TOY, toy_host_known

from selfalign_cli.assembly.build import ENCODERS
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.context import context_loss
from selfalign_cli.losses.contrastive import InfoNce, PairwiseSigmoid
from selfalign_cli.losses.diversity import diversity_loss
from selfalign_cli.losses.ranking import ranking_loss
from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder
from selfalign_cli.models.hosts.vse_infty import (
    VseInftyBertTextEncoder,
    VseInftyImageEncoder,
    VseInftyTextEncoder,
)
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.parts.captioner import CaptionGenerator
from selfalign_cli.models.selfalign import SelfAlign
from selfalign_cli.models.token_encoder import TokenEncoder
from selfalign_cli.recipe import hosts, schema
from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.section import Section

Constructors = tuple[Callable[..., object], ...]

# For each section: its constructors, the keys somebody else reads (and who), the arguments build.py gives itself.
SECTIONS: dict[type[Section], tuple[Constructors, set[str], set[str]]] = {
    hosts.VsrnSection: (
        (VsrnImageEncoder, VsrnTextEncoder),
        {"name"},
        {"feature_dim", "vocab_size", "for_selfalign"},
    ),
    hosts.CameraSection: (
        (CameraImageEncoder, CameraTextEncoder, TokenEncoder),
        {"name"},
        {"feature_dim", "token_dim", "for_selfalign", *schema.PaddingSection.model_fields, "padding_is_read"},
    ),
    hosts.VseInftySection: (
        (VseInftyImageEncoder, VseInftyTextEncoder),
        {"name"},
        {"feature_dim", "vocab_size", "for_selfalign"},
    ),
    hosts.VseInftyBertSection: (
        (VseInftyImageEncoder, VseInftyBertTextEncoder, TokenEncoder),
        {"name"},
        {"feature_dim", "token_dim", "padding_is_read"},
    ),
    schema.SelfAlignSection: (
        (SelfAlign,),
        {"enabled"},
        {"dim", "context_first", "masked_means", "masked_batchnorm", "masked_keys"},
    ),
    schema.RankingSection: (
        (ranking_loss, InfoNce, PairwiseSigmoid),
        {"kind", "weight", "hardest_negative", "warmup_epochs", "warmup_mode"},  # the term, and the trainer
        {"image_pooled", "image_shared", "text_pooled", "text_shared", "index", "mode"},
    ),
    schema.ConceptSection: ((ConceptAlignment,), {"enabled", "weight", "frozen_epochs"}, {"dim"}),  # the trainer
    schema.ContextSection: (
        (context_loss,),
        {"enabled", "weight", "image_temperature", "text_temperature"},
        {"guide", "locals_", "mask", "index", "temperature"},
    ),
    schema.CaptioningSection: ((CaptionGenerator,), {"weight"}, {"region_dim", "vocab_size"}),
    schema.DiversitySection: ((diversity_loss,), {"weight"}, {"view_logits", "mask"}),
}


def arguments(constructors: Constructors) -> set[str]:
    return {name for constructor in constructors for name in inspect.signature(constructor).parameters}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_no_key_of_a_section_is_left_over(section: type[Section]) -> None:
    constructors, elsewhere, _ = SECTIONS[section]
    assert set(section.model_fields) - arguments(constructors) == elsewhere


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_no_option_of_a_constructor_is_out_of_reach(section: type[Section]) -> None:
    constructors, _, given = SECTIONS[section]
    assert arguments(constructors) - set(section.model_fields) == given


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_defaults_agree(section: type[Section]) -> None:
    constructors, _, _ = SECTIONS[section]
    for constructor in constructors:
        for name, parameter in inspect.signature(constructor).parameters.items():
            field = section.model_fields.get(name)
            trains_bert = section is hosts.VseInftyBertSection and name == "finetune"  # others leave it frozen
            if field is not None and parameter.default is not inspect.Parameter.empty and not trains_bert:
                assert parameter.default == field.default, name


def test_every_section_of_model_and_loss_is_looked_at() -> None:
    nested = {
        kind
        for field in (*schema.LossSection.model_fields.values(), *schema.Recipe.model_fields.values())
        for kind in sections_in(field.annotation)
    }
    nested = nested - {hosts.HostSection} | {host.section for host in HOSTS.values()}
    elsewhere = {schema.PaddingSection, schema.LossSection}  # below
    outside = {schema.RunSection, schema.DataSection, schema.OptimSection, schema.ValidationSection}
    assert nested - elsewhere - outside == set(SECTIONS)


def sections_in(annotation: object) -> set[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return {annotation}
    return {kind for part in getattr(annotation, "__args__", ()) for kind in sections_in(part)}


@pytest.mark.parametrize("text", [VSRN, CAMERA], ids=["vsrn", "camera"])
@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("padding.masked_means=false", "selfalign.masked_means", False),
        ("padding.masked_batchnorm=false", "selfalign.masked_batchnorm", False),
        ("padding.masked_attention=false", "selfalign.masked_keys", False),
        ("selfalign.image_context_weight=0.3", "selfalign.image_context_weight", 0.3),
        ("selfalign.relu=false", "selfalign.text_head.relu", False),
        ("selfalign.enabled=false", "selfalign", None),
        ("model.bounded_norm=false", "image.bounded_norm", False),
        ("model.normalize_over=embedding", "image.normalize_over", "embedding"),
    ],
)
def test_the_model_has_what_the_recipe_says(text: str, override: str, place: str, value: object) -> None:
    assert at(build_tiny(text, override).model, place) == value


@pytest.mark.parametrize("key", ["masked_means", "masked_batchnorm", "masked_attention"])
def test_camera_words_are_padded_as_the_recipe_says(key: str) -> None:
    assert at(build_tiny(CAMERA, f"padding.{key}=false").model, f"text.{key}") is False


def test_every_host_of_the_table_has_encoders() -> None:
    assert ENCODERS.keys() == HOSTS.keys()


@pytest.mark.parametrize("name", HOSTS)
def test_padding_options_reach_the_hosts_that_read_padding(name: str) -> None:
    options = arguments(ENCODERS[name])
    assert options.issuperset(schema.PaddingSection.model_fields) is HOSTS[name].reads_padding


def test_a_key_that_no_encoder_takes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with toy_host_known():
        image, _ = ENCODERS["toy"]
        monkeypatch.setitem(ENCODERS, "toy", (image, image))
        with pytest.raises(TypeError, match="neither ToyImageEncoder nor ToyImageEncoder takes word_dim"):
            build_tiny(TOY)


@pytest.mark.parametrize(("text", "context_first"), [(VSRN, True), (CAMERA, False)], ids=["vsrn", "camera"])
def test_blocks_have_the_published_order(text: str, context_first: bool) -> None:
    assert at(build_tiny(text).model, "selfalign.context_first") is context_first


def at(value: object, place: str) -> object:
    for name in place.split("."):
        value = getattr(value, name)
    return value
