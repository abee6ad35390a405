"""Make small checkpoints as the published programs wrote them, from our own models with random weights."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfalign_cli.assembly.build import build_model
from selfalign_cli.data.text.vocab import SPECIAL_WORDS
from selfalign_cli.errors import SelfAlignError
from selfalign_cli.models.bert import bert_from_config
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.published import names
from selfalign_cli.published.importing import Imported, ImportSources, import_checkpoint
from selfalign_cli.published.options import host_of_options, recipe_from_published

WORDS = (*SPECIAL_WORDS, "a", "dog", "cat", "runs", ".")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "runs", ".")
FEATURE_DIM, EMBED_DIM, PROTOTYPES = 6, 8, 5
BERT_CONFIG = {
    "vocab_size": len(PIECES),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
VSRN_OPTIONS = {
    "data_name": "f30k_precomp",
    "batch_size": 4,
    "embed_size": EMBED_DIM,
    "word_dim": 7,
    "local_clu_num": PROTOTYPES,
    "learning_rate": 0.0002,
    "num_epochs": 30,
    "lr_update": 10,
    "grad_clip": 2.0,
    "margin": 0.2,
    "max_violation": True,
    "measure": "cosine",
    "ctx_relu": 1,
    "dim_hidden": 6,
    "dim_word": 5,
    "max_len": 9,
    "input_dropout_p": 0.2,
}
CAMERA_OPTIONS = {
    "data_name": "f30k_precomp",
    "batch_size": 4,
    "embed_size": EMBED_DIM,
    "head": 2,
    "smry_k": 3,
    "smry_lamda": 0.01,
    "max_words": 9,
    "drop": 0.0,
    "local_clu_num": PROTOTYPES,
    "learning_rate": 0.0001,
    "lr_decay_gamma": 0.2,
    "num_epochs": 30,
    "lr_update": 10,
    "grad_clip": 2.0,
    "margin": 0.2,
    "max_violation": True,
    "do_lower_case": True,
}


VSE_INFTY_OPTIONS = {"precomp_enc_type": "basic", "batch_size": 4, "embed_size": EMBED_DIM, "word_dim": 7}


def published_model(
    options: dict[str, Any], *, selfalign: bool = True, host: str | None = None, words: int = len(WORDS)
) -> RetrievalModel:
    """Our model for published options, with seeded random weights."""
    torch.manual_seed(0)
    recipe = recipe_from_published(options, selfalign=selfalign, host_name=host)
    bert: nn.Module | None = bert_from_config(BERT_CONFIG) if recipe.host.captions == "pieces" else None
    model = build_model(recipe, feature_dim=FEATURE_DIM, vocab_size=words, bert=bert)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return model


def published_content(
    options: dict[str, Any] | None = None, *, selfalign: bool = True, host: str | None = None, words: int = len(WORDS)
) -> dict[str, Any]:
    """What a published checkpoint holds, under published names."""
    options = dict(VSRN_OPTIONS if options is None else options)
    model = published_model(options, selfalign=selfalign, host=host, words=words)
    rules = names.HOSTS[host or host_of_options(options)]
    states = [_published_state(model, side, of_side) for side, of_side in zip(("image", "text"), rules, strict=True)]
    if selfalign:
        states.append({"v_prototypes.weight": torch.randn(PROTOTYPES, EMBED_DIM)})
    return {
        "epoch": 3,
        "model": states,
        "best_rsum": 132.5,
        "opt": argparse.Namespace(**options),
        "Eiters": 30,
    }


def _published_state(model: RetrievalModel, side: str, host: names.Rules) -> dict[str, Tensor]:
    back = tuple((ours, theirs) for theirs, ours in names.side_rules(host, side=side))
    state = {}
    for name, value in model.state_dict().items():
        theirs = names.rename(name, back)
        if theirs is not None:
            convolution = theirs.startswith("Rs_GCN") and value.dim() == 2
            state[theirs] = value.unsqueeze(-1) if convolution else value
    return state


def write_checkpoint(path: Path, content: object, *, zipped: bool = True) -> Path:
    """Serialise as torch does today, or as it did before release 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def write_vocabulary(path: Path, words: tuple[str, ...] = WORDS) -> Path:
    """SCAN's JSON, or a pickle of tables for any other suffix."""
    tables: dict[str, Any] = {
        "word2idx": {word: number for number, word in enumerate(words)},
        "idx2word": dict(enumerate(words)),
        "idx": len(words),
    }
    path.write_bytes(json.dumps(tables).encode() if path.suffix == ".json" else pickle.dumps(tables, 2))
    return path


def write_bert_folder(folder: Path, **changes: Any) -> Path:
    """The older layout, without weights."""
    folder.mkdir()
    (folder / "bert_config.json").write_text(json.dumps({**BERT_CONFIG, **changes}))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    return folder


def import_content(folder: Path, content: object, sources: ImportSources, *, zipped: bool = True) -> Imported:
    """Write a checkpoint and import it to `new.ckpt`."""
    old = write_checkpoint(folder / "model_best.pth.tar", content, zipped=zipped)
    return import_checkpoint(old, folder / "new.ckpt", sources, overwrite=True)


def refused_content(folder: Path, content: object, sources: ImportSources) -> SelfAlignError:
    """Expect that an import is refused and leaves nothing behind."""
    with pytest.raises(SelfAlignError) as caught:
        import_content(folder, content, sources)
    assert not (folder / "new.ckpt").exists()
    return caught.value
