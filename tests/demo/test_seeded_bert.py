"""A small seeded BERT loads like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from selfalign_cli.data.text.wordpiece import load_tokenizer, save_tokenizer
from selfalign_cli.data.text.wordpiece_training import build_wordpieces
from selfalign_cli.demo.seeded_bert import write_seeded_bert
from selfalign_cli.errors import DataError
from selfalign_cli.models.bert import check_limits, load_bert


def tokenizer_folder(path: Path) -> Path:
    save_tokenizer(build_wordpieces(["a red ball and a blue box"] * 2, size=50), path)
    return path


def test_the_folder_loads_like_any_other(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "bert")
    write_seeded_bert(folder, hidden=8, layers=1, heads=2, positions=10, seed=1)
    bert, tokenizer = load_bert(str(folder)), load_tokenizer(str(folder))
    check_limits(bert, tokens=len(tokenizer), max_words=10, source=str(folder))
    hidden = bert(input_ids=torch.tensor([tokenizer.encode("a red box")])).last_hidden_state
    assert hidden.shape[-1] == 8


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_seeded_bert(tokenizer_folder(tmp_path / name), hidden=8, layers=1, heads=2, seed=1)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 attention heads do not divide a width of 8"):
        write_seeded_bert(tokenizer_folder(tmp_path / "bert"), hidden=8, heads=3)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tokenizer"):
        write_seeded_bert(tmp_path)
