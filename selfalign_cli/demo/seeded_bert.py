"""A small BERT with seeded random weights, in a folder beside its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.text.wordpiece import load_tokenizer
from selfalign_cli.errors import DataError
from selfalign_cli.models.bert import CURRENT_CONFIG, WEIGHTS, bert_config_dict, seeded_bert


def write_seeded_bert(
    folder: Path, *, hidden: int = 64, layers: int = 2, heads: int = 4, positions: int = 64, seed: int = 1024
) -> None:
    """Add the configuration and the weights of a small BERT to a folder that holds a WordPiece tokenizer.

    The weights are the initial ones of training. They depend on the arguments and on the
    number of tokens alone.

    Args:
        folder: made by `selfalign build-vocab --kind wordpiece`.
        hidden: width of token states; a multiple of `heads`.
        layers: number of transformer layers.
        heads: attention heads.
        positions: longest caption in tokens.
        seed: seed of the weights.

    Raises:
        DataError: the folder holds no tokenizer or cannot be written to, or `heads` do not divide `hidden`.
        RunError: the disk is full.
    """
    if hidden % heads:
        raise DataError(f"{heads} attention heads do not divide a width of {hidden}")
    tokens = len(load_tokenizer(str(folder)))
    sizes = {
        "vocab_size": tokens,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": positions,
    }
    bert = seeded_bert(sizes, seed=seed)
    config = {**bert_config_dict(bert), "architectures": [type(bert).__name__]}
    with replacing(folder / WEIGHTS[0]) as temporary:
        save_file(bert.state_dict(), temporary, metadata={"format": "pt"})
    with replacing(folder / CURRENT_CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
