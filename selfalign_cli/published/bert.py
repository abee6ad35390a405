"""What CAMERA's old checkpoints leave to a BERT folder: configuration and pieces. They hold its weights themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfalign_cli.data.text.wordpiece import WordPieceTokenizer, load_tokenizer
from selfalign_cli.errors import DataError
from selfalign_cli.models.bert import CURRENT_CONFIG, OLDER_CONFIG, bert_config_dict, bert_from_config

PIECES = "vocab.txt"


def read_bert_folder(
    folder: Path, *, vectors: int, split_chinese: bool
) -> tuple[WordPieceTokenizer, nn.Module, dict[str, Any]]:
    """Read configuration and pieces of a BERT folder; its weights may be missing.

    Args:
        folder: holds `bert_config.json` (or `config.json`) and `vocab.txt`.
        vectors: number of pieces that the checkpoint has vectors for.
        split_chinese: take every Chinese character as a word.

    Returns:
        The tokenizer of the published programs, a BERT without weights (on the meta device), and its configuration
        as a checkpoint keeps it.

    Raises:
        DataError: there is no such folder, it lacks a file, or it is not the one the checkpoint was trained with.
        CheckpointError: the configuration cannot be built.
    """
    if not folder.is_dir():
        raise DataError(f"--bert {folder} is no folder; expected one with {OLDER_CONFIG} and {PIECES}")
    config_path = next((folder / name for name in (OLDER_CONFIG, CURRENT_CONFIG) if (folder / name).exists()), None)
    lacking = [OLDER_CONFIG] * (config_path is None) + [PIECES] * (not (folder / PIECES).exists())
    if config_path is None or lacking:
        raise DataError(
            f"--bert {folder} lacks {' and '.join(lacking)}",
            "take the folder the checkpoint was trained with, e.g. uncased_L-12_H-768_A-12",
        )
    tokenizer = load_tokenizer(str(folder), published=True, split_chinese=split_chinese)
    if len(tokenizer) != vectors:
        raise DataError(
            f"{folder / PIECES} has {len(tokenizer):,} pieces; the checkpoint has vectors for {vectors:,}",
            "take the folder the checkpoint was trained with; the file may be cut short",
        )
    with torch.device("meta"):  # names and shapes only
        bert = bert_from_config(_read_config(config_path))
    return tokenizer, bert, bert_config_dict(bert)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is not JSON: {fault}") from fault
    if not isinstance(config, dict):
        raise DataError(f"{path} holds a {type(config).__name__}; expected BERT's sizes by name")
    return config
