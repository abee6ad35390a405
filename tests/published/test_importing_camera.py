"""import-checkpoint on CAMERA files: BERT's weights are in the checkpoint, the rest is in a BERT folder."""

from __future__ import annotations

import pytest
import torch
from support.published_files import (
    CAMERA_OPTIONS,
    PIECES,
    import_content,
    published_content,
    published_model,
    refused_content,
    write_bert_folder,
)

from selfalign_cli.published.importing import ImportSources


@pytest.fixture
def sources(tmp_path):
    return ImportSources(bert=write_bert_folder(tmp_path / "bert"))


def test_names_of_older_bert_releases(tmp_path, sources):
    content = published_content(CAMERA_OPTIONS)
    text = content["model"][1]
    for name in [name for name in text if "LayerNorm" in name]:
        older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        text[older] = text.pop(name)
    text["bert.embeddings.position_ids"] = torch.arange(16).unsqueeze(0)
    for name in [name for name in text if "pooler" in name]:
        del text[name]
    result = import_content(tmp_path, content, sources)
    expected = published_model(CAMERA_OPTIONS).state_dict()
    read = {name: value for name, value in expected.items() if "pooler" not in name}
    assert all(torch.equal(value, result.checkpoint.model[name]) for name, value in read.items())
    assert result.notes == [
        f"text.bert.pooler.dense.{part} is not in the file; nothing reads it" for part in ("weight", "bias")
    ]


def test_a_weight_under_two_names(tmp_path, sources):
    content = published_content(CAMERA_OPTIONS)
    text = content["model"][1]
    text["bert.embeddings.LayerNorm.gamma"] = text["bert.embeddings.LayerNorm.weight"]
    message = refused_content(tmp_path, content, sources).message
    assert "text encoder: unexpected weight bert.embeddings.LayerNorm.gamma" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "vocab.txt").unlink(), "lacks vocab.txt"),
        (lambda folder: (folder / "bert_config.json").unlink(), "lacks bert_config.json"),
        (lambda folder: (folder / "bert_config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "bert_config.json").write_text("[]"), "expected BERT's sizes by name"),
        (lambda folder: (folder / "bert_config.json").write_text('{"hidden_size": "x"}'), "cannot be built"),
        (lambda folder: (folder / "vocab.txt").write_text("\n".join(PIECES[:-2])), "has 8 pieces"),
    ],
)
def test_faulty_bert_folders(tmp_path, sources, change, words):
    change(sources.bert)
    assert words in refused_content(tmp_path, published_content(CAMERA_OPTIONS), sources).message


def test_no_bert_folder(tmp_path):
    fault = refused_content(tmp_path, published_content(CAMERA_OPTIONS), ImportSources(bert=tmp_path / "nowhere"))
    assert "is no folder" in fault.message


def test_a_bert_of_another_size(tmp_path):
    sources = ImportSources(bert=write_bert_folder(tmp_path / "other", intermediate_size=16, num_hidden_layers=2))
    message = refused_content(tmp_path, published_content(CAMERA_OPTIONS), sources).message
    assert "bert.encoder.layer.0.intermediate.dense.weight has shape (12, 8); the options need (16, 8)" in message
    assert "missing weight bert.encoder.layer.1.attention" in message


def test_a_current_config_will_do(tmp_path, sources):
    folder = sources.bert
    (folder / "bert_config.json").rename(folder / "config.json")
    assert import_content(tmp_path, published_content(CAMERA_OPTIONS), sources).checkpoint.bert_config


def test_cased_captions_are_refused(tmp_path, sources):
    content = published_content(CAMERA_OPTIONS)
    content["opt"].do_lower_case = False
    assert "cased" in refused_content(tmp_path, content, sources).message


def test_captions_longer_than_bert_has_positions_for(tmp_path, sources):
    content = published_content(CAMERA_OPTIONS)
    content["opt"].max_words = 17
    assert "17" in refused_content(tmp_path, content, sources).message
