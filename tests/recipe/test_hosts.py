"""The table of hosts: a host that joins it gets presets, needs and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.toy_host import TOY_HOST, toy_host_known

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.compat import compat_label, rows_of
from selfalign_cli.recipe.hosts import HOSTS, VsrnSection
from selfalign_cli.recipe.load import parse_recipe, with_compat
from selfalign_cli.recipe.schema import LossSection
from selfalign_cli.recipe.wording import listed

TOY = "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: toy}\n"
VSRN = TOY.replace("toy", "vsrn")


@pytest.fixture(autouse=True)
def _toy_host() -> Iterator[None]:
    with toy_host_known():
        yield


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides, "toy.yaml")
    return caught.value.message


def test_a_recipe_of_the_host_is_read() -> None:
    recipe = parse_recipe(TOY, ["model.word_dim=7"], "toy.yaml")
    assert (recipe.model.name, recipe.model.model_dump()["word_dim"], recipe.host) == ("toy", 7, TOY_HOST)


@pytest.mark.parametrize("preset", ["corrected", "published"])
def test_presets_touch_no_key_that_the_host_lacks(preset: str) -> None:
    recipe = parse_recipe(TOY, [f"compat={preset}"], "toy.yaml")
    assert compat_label(recipe) == preset
    assert compat_label(with_compat(recipe, "corrected")) == "corrected" + (preset == "published") * "+lowercase"


def test_rows_follow_the_table() -> None:
    paths = {row.path for row in rows_of("toy")}
    assert paths < {row.path for row in rows_of("vsrn")}
    assert {row.path for row in rows_of("vsrn")} - paths == {"model.bounded_norm", "optim.captioner_twice"}
    assert {row.path for row in rows_of("nobody")} == paths - {"data.lowercase"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.captioning={}", "only vsrn has a caption generator (remove this section)"),
        ("loss.diversity={}", "only camera has views to keep apart (remove this section)"),
        ("optim.captioner_twice=true", "only vsrn has a caption generator (remove this key)"),
        ("optim.bert_learning_rate=0.1", "toy has no BERT (remove this key)"),
        ("data.cache_words=true", "toy has no BERT (remove this key)"),
        ("data.vocab=null", "toy needs a vocabulary (selfalign build-vocab makes one)"),
        ("model.heads=4", "unknown key (camera has it, toy has not)"),
        ("model.word_dims=4", "unknown key (did you mean 'word_dim'?)"),
        ("model.word_dim=x", "expected a whole number, got text 'x'"),
    ],
)
def test_wrong_keys_are_refused_in_words(override: str, message: str) -> None:
    assert refusal(TOY, override) == f"toy.yaml has 1 fault\n  --set {override}: {message}"


def test_the_host_is_one_of_those_that_may_be_named() -> None:
    found = f"model.name=toyy: expected {listed(list(HOSTS))}, got 'toyy' (did you mean 'toy'?)"
    assert refusal(TOY, "model.name=toyy") == f"toy.yaml has 1 fault\n  --set {found}"


def test_two_hosts_with_a_part_are_both_named() -> None:
    camera = "run: {dir: r}\ndata: {features: f, max_words: 9}\nmodel: {name: camera, bert: b}\nloss: {captioning: {}}"
    HOSTS["toy"] = replace(TOY_HOST, feeds=("captioning",))
    assert "loss.captioning: only vsrn and toy have a caption generator (remove this section)" in refusal(camera)


@pytest.mark.parametrize("name", HOSTS)
def test_a_row_agrees_with_its_section_and_the_loss(name: str) -> None:
    host = HOSTS[name]
    assert host.section.model_validate({"name": name, **({"bert": "b"} if host.captions == "pieces" else {})})
    assert set(host.feeds) <= LossSection.model_fields.keys()


def test_word_pieces_need_a_bert_section() -> None:
    with pytest.raises(TypeError, match="word pieces and a BertSection go together"):
        replace(TOY_HOST, captions="pieces", section=VsrnSection)
