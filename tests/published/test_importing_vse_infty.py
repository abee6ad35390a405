"""Checkpoints of VSE∞: what is taken as it is, what is added, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.published_files import (
    EMBED_DIM,
    PIECES,
    VSE_INFTY_OPTIONS,
    WORDS,
    import_content,
    published_content,
    refused_content,
    write_bert_folder,
    write_vocabulary,
)

from selfalign_cli.data.text.vocab import MASK_WORD
from selfalign_cli.published.importing import ImportSources

HOSTS = ("vse_infty", "vse_infty_bert")
each_host = pytest.mark.parametrize("host", HOSTS)


def content(host: str) -> dict[str, Any]:
    """As the hub's files: every name of a BERT model begins with `module.`, and an unused norm is there."""
    made = published_content(VSE_INFTY_OPTIONS, selfalign=False, host=host, words=len(WORDS) + 1)
    image, text = made["model"]
    norm = {"weight": torch.ones(EMBED_DIM), "bias": torch.zeros(EMBED_DIM)}
    image.update({f"mlp.bns.1.{name}": value for name, value in norm.items()})
    if host == "vse_infty_bert":
        made["model"] = [{f"module.{name}": value for name, value in state.items()} for state in (image, text)]
    return made


@pytest.fixture
def sources(tmp_path: Path) -> ImportSources:
    return ImportSources(vocab=write_vocabulary(tmp_path / "v.json"), bert=write_bert_folder(tmp_path / "bert"))


@each_host
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
def test_every_weight_arrives(tmp_path: Path, sources: ImportSources, host: str, zipped: bool) -> None:
    old = content(host)
    imported = import_content(tmp_path, old, sources, zipped=zipped)
    checkpoint = imported.checkpoint
    assert checkpoint.recipe.model.name == host
    assert checkpoint.recipe.compat == "published"
    assert not checkpoint.recipe.selfalign.enabled
    assert checkpoint.scores == {"rsum": 132.5}
    found = sorted(float(value.double().sum()) for value in checkpoint.model.values())
    given = [
        float(value.double().sum())
        for state in old["model"]
        for name, value in state.items()
        if "mlp.bns.1." not in name
    ]
    assert found == sorted(given)
    assert imported.summary["best dev rsum"] == "132.5"


def test_what_no_option_says_is_that_of_the_released_scripts(tmp_path: Path, sources: ImportSources) -> None:
    recipe = import_content(tmp_path, content("vse_infty_bert"), sources).checkpoint.recipe
    assert (recipe.optim.learning_rate, recipe.optim.bert_learning_rate) == (5e-4, pytest.approx(5e-5))
    assert (recipe.optim.weight_decay, recipe.optim.epochs, recipe.optim.decay_every) == (1e-4, 25, 15)
    assert (recipe.data.drop_regions, recipe.data.alter_words, recipe.data.drop_last) == (0.2, 0.2, True)
    assert (recipe.loss.ranking.warmup_epochs, recipe.loss.ranking.warmup_mode) == (1, "sum")
    assert recipe.data.max_words == 16  # the positions of its BERT
    assert import_content(tmp_path, content("vse_infty"), sources).checkpoint.recipe.optim.weight_decay == 1e-2


def test_the_vocabulary_gets_its_mask(tmp_path: Path, sources: ImportSources) -> None:
    text = import_content(tmp_path, content("vse_infty"), sources).checkpoint.text
    assert text["words"] == [*WORDS, MASK_WORD]
    assert (text["tokenizer"], text["lowercase"]) == ("treebank", "unicode")


def test_chinese_characters_are_words(tmp_path: Path, sources: ImportSources) -> None:
    checkpoint = import_content(tmp_path, content("vse_infty_bert"), sources).checkpoint
    assert '"handle_chinese_chars":true' in checkpoint.text["tokenizer"]


def test_a_vocabulary_of_another_size(tmp_path: Path) -> None:
    vocab = write_vocabulary(tmp_path / "v.json", (*WORDS, "bird"))
    fault = refused_content(tmp_path, content("vse_infty"), ImportSources(vocab=vocab))
    assert f"{len(WORDS) + 2} words, <mask> included; the word table of" in fault.message
    assert f"has {len(WORDS) + 1}" in fault.message


@pytest.mark.parametrize(("host", "option"), [("vse_infty", "--vocab"), ("vse_infty_bert", "--bert")])
def test_what_the_old_file_lacks_is_asked_for(tmp_path: Path, host: str, option: str) -> None:
    fault = refused_content(tmp_path, content(host), ImportSources())
    assert "VSE∞" in fault.message
    assert f"add {option} with" in (fault.hint or "")


def test_a_grid_model_is_refused_as_such(tmp_path: Path, sources: ImportSources) -> None:
    grid = content("vse_infty")
    grid["model"][0] = {"module.image_encoder.fc.weight": torch.zeros(2, 2)}
    fault = refused_content(tmp_path, grid, sources)
    assert "is a grid model of VSE∞" in fault.message
    assert "butd_region" in (fault.hint or "")


@each_host
def test_misfits_are_listed_under_their_published_names(tmp_path: Path, sources: ImportSources, host: str) -> None:
    old = content(host)
    image = old["model"][0]
    prefix = "module." if host == "vse_infty_bert" else ""
    del image[f"{prefix}gpool.gru.bias_hh_l0_reverse"]
    image[f"{prefix}mlp.layers.0.bias"] = torch.zeros(3)
    image[f"{prefix}mlp.layers.2.bias"] = torch.zeros(3)
    fault = refused_content(tmp_path, old, sources)
    for line in (
        "image encoder: missing weight gpool.gru.bias_hh_l0_reverse",
        "image encoder: mlp.layers.0.bias has shape (3,); the options need (4,)",
        "image encoder: unexpected weight mlp.layers.2.bias",
    ):
        assert line in fault.message


def test_weights_of_vse_infty_with_options_of_camera(tmp_path: Path, sources: ImportSources) -> None:
    old = content("vse_infty")
    old["opt"].head = 4
    fault = refused_content(tmp_path, old, sources)
    assert "has the weights of VSE∞ and the options of CAMERA" in fault.message


def test_a_bert_folder_of_another_size(tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "bert")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES[:-1]))
    fault = refused_content(tmp_path, content("vse_infty_bert"), ImportSources(bert=folder))
    assert "has 9 pieces; the checkpoint has vectors for 10" in fault.message
