"""Small whole files of every kind that the program reads, for `fuzz` to damage: target / case / files."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from campaigns.commands import Command

from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.vocab import SPECIAL_WORDS, build_vocabulary
from selfalign_cli.data.text.wordpiece import save_tokenizer
from selfalign_cli.data.text.wordpiece_training import build_wordpieces
from selfalign_cli.errors import RunError
from selfalign_cli.published import names
from selfalign_cli.recipe.shipped import shipped_recipe

Write = Callable[[Path, Path], None]
"""Writes the files of a case: (folder with the outputs of the commands, folder of the case)."""

WIDTH = 5
IMAGES = {"train": 4, "dev": 2, "test": 2}
CAPTIONS = ("A red ball lies on the grass.", "Two dogs run; one barks.", "A café at night", "the ball is blue")
RECIPE = """\
# A recipe of every section.
run: {dir: run, seed: 7, log_every: 1, save_every: 2, tensorboard: false}
data: {features: f.h5, vocab: v.json, batch_size: 5}
model: {name: vsrn, embed_dim: 4, word_dim: 3, graph_layers: 4, final_batchnorm: true}
loss:
  concept: {prototypes: 3}
  context: {negatives: 4}
  captioning: {hidden_dim: 3, word_dim: 3, max_len: 8, dropout: 0.3}
optim:
  learning_rate: 3.0e-3   # Adam's
  epochs: 1
validation: {every: 2, batch_size: 4, select_by: "r1+r5"}
"""
PUBLISHED_OPTIONS: dict[str, Any] = {
    "data_name": "f30k_precomp",
    "batch_size": 5,
    "embed_size": 4,
    "word_dim": 3,
    "local_clu_num": 3,
    "learning_rate": 0.0002,
    "num_epochs": 30,
    "lr_update": 10,
    "grad_clip": 2.0,
    "margin": 0.2,
    "max_violation": True,
    "measure": "cosine",
    "ctx_relu": 1,
    "dim_hidden": 3,
    "dim_word": 3,
    "max_len": 8,
}


def make_samples(folder: Path, threads: int) -> None:
    """Write all samples, with the program's own commands where it writes such files.

    Args:
        folder: an empty folder.
        threads: of torch.

    Raises:
        RunError: one of the commands failed.
    """
    work = folder / ".made"
    work.mkdir()
    records = _records()
    total = sum(len(record.features) for record in records)
    write_feature_file(work / "f.h5", iter(records), total_images=len(records), total_regions=total, feature_dim=WIDTH)
    build_vocabulary(CAPTIONS, min_count=1).save(work / "v.json")
    (work / "r.yaml").write_text(RECIPE, encoding="utf-8")
    for arguments in (
        ["train", "r.yaml", "--device", "cpu"],
        ["export-embeddings", "run/last.ckpt", "--out", "e.h5"],
        ["export-embeddings", "run/last.ckpt", "--out", "e.npz"],
    ):
        command = Command(arguments, folder=work, printed=work / "printed.txt", cold=False, threads=threads)
        if command.wait() != 0:
            raise RunError(f"a sample could not be made: {(work / 'printed.txt').read_text(errors='replace')}")
    for target, cases in SAMPLES.items():
        for case, write in cases.items():
            (folder / target / case).mkdir(parents=True)
            write(work, folder / target / case)
    shutil.rmtree(work)


def _records() -> list[ImageRecord]:
    draw = np.random.default_rng(0)
    records = []
    for split, count in IMAGES.items():
        for row in range(count):
            features = draw.random((2 + row % 2, WIDTH), dtype=np.float32)
            boxes = np.tile(np.array([1, 2, 30, 40], np.float32), (len(features), 1))
            texts = [CAPTIONS[row % 4], CAPTIONS[(row + 1) % 4]]
            ids = [f"{split}{row}a", f"{split}{row}b"]
            records.append(
                ImageRecord(f"{split}-é{row}", features, split, texts, ids, boxes, (64.0, 48.0), f"{row}.jpg")
            )
    return records


def _copy(work: Path, folder: Path, *, names: Sequence[str]) -> None:
    """Files that the commands made."""
    for name in names:
        shutil.copy(work / name, folder / Path(name).name)


def _copy_shipped(work: Path, folder: Path, *, name: str) -> None:
    shutil.copy(shipped_recipe(name), folder)


def _write_json(work: Path, folder: Path, *, content: Any, name: str = "c.json") -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _tables(text_ids: bool) -> dict[str, Any]:
    """A vocabulary of another program."""
    words = (*SPECIAL_WORDS, *sorted({word for text in CAPTIONS for word in text.lower().split()}))
    by_id = {str(number) if text_ids else number: word for number, word in enumerate(words)}
    return {"word2idx": {word: number for number, word in enumerate(words)}, "idx2word": by_id, "idx": len(words)}


def _write_pickled_vocabulary(work: Path, folder: Path) -> None:
    (folder / "v.pkl").write_bytes(pickle.dumps(_tables(text_ids=False), 2))


def _karpathy() -> dict[str, Any]:
    return {
        "images": [
            {"filename": f"{row}.jpg", "imgid": row, "split": split, "sentences": [{"raw": text, "sentid": row}]}
            for row, (split, text) in enumerate(zip(("train", "restval", "val", "test"), CAPTIONS, strict=True))
        ],
        "dataset": "made",
    }


def _coco() -> dict[str, Any]:
    sizes = {"width": 64, "height": 48}
    return {
        "images": [{"id": row, "file_name": f"{row}.jpg", **sizes} for row in range(len(CAPTIONS))],
        "annotations": [{"id": row, "image_id": row, "caption": text} for row, text in enumerate(CAPTIONS)],
    }


def _listed() -> list[dict[str, Any]]:
    return [{"image": f"{row}.jpg", "split": "train", "captions": [text]} for row, text in enumerate(CAPTIONS)]


def _ranks() -> dict[str, Any]:
    ranks = {"i2t": [1, 2], "t2i": [1, 1, 2, 1], "image_of_caption": [0, 0, 1, 1]}
    return {"ranks": ranks, "queries": "00", "folds": 1, "rsum": 1.0}


def _write_scan(work: Path, folder: Path) -> None:
    """A SCAN folder of two pictures."""
    draw = np.random.default_rng(1)
    np.save(folder / "dev_ims.npy", draw.random((2, 2, 3), dtype=np.float32))
    np.save(folder / "dev_boxes.npy", np.tile(np.array([1, 2, 30, 40], np.float32), (2, 2, 1)))
    np.save(folder / "dev_img_sizes.npy", np.full((2, 2), 64, np.float32))
    _write_lines(work, folder)


def _write_lines(work: Path, folder: Path) -> None:
    (folder / "dev_caps.txt").write_text("".join(f"{text}\n" for text in CAPTIONS), encoding="utf-8")
    (folder / "dev_ids.txt").write_text("11\n12\n", encoding="utf-8")


def _write_published(work: Path, folder: Path, *, zipped: bool) -> None:
    """The trained model, in the format of the published programs."""
    ours = load_checkpoint(work / "run/last.ckpt").model
    states = []
    for side, host in (("image", names.VSRN_IMAGE), ("text", names.VSRN_TEXT)):
        back = tuple((own, theirs) for theirs, own in names.side_rules(host, side=side))
        renamed = {names.rename(name, back): value for name, value in ours.items()}
        states.append(
            {
                name: value.unsqueeze(-1) if name.startswith("Rs_GCN") and value.dim() == 2 else value
                for name, value in renamed.items()
                if name is not None
            }
        )
    states.append({"v_prototypes.weight": torch.zeros(3, 4)})
    content = {"epoch": 3, "model": states, "best_rsum": 1.5, "opt": argparse.Namespace(**PUBLISHED_OPTIONS)}
    torch.save({**content, "Eiters": 30}, folder / "old.pth.tar", _use_new_zipfile_serialization=zipped)
    shutil.copy(work / "v.json", folder)


def _write_tokenizer(work: Path, folder: Path, *, kept: Sequence[str]) -> None:
    """A folder with a tokenizer, reduced to some of its files."""
    save_tokenizer(build_wordpieces(CAPTIONS, size=60), folder)
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()


SAMPLES: dict[str, dict[str, Write]] = {
    "recipe": {
        "small": partial(_copy, names=["r.yaml"]),
        "shipped": partial(_copy_shipped, name="vsrn_scenes.yaml"),
        "camera": partial(_copy_shipped, name="camera_f30k.yaml"),
    },
    "vocabulary": {
        "own": partial(_copy, names=["v.json"]),
        "json": partial(_write_json, content=_tables(text_ids=True), name="v.json"),
        "pickle": _write_pickled_vocabulary,
    },
    "tokenizer": {
        "json": partial(_write_tokenizer, kept=["tokenizer.json"]),
        "text": partial(_write_tokenizer, kept=["vocab.txt", "tokenizer_config.json"]),
    },
    "features": {"own": partial(_copy, names=["f.h5"])},
    "source": {"scan": _write_scan},
    "captions": {
        "lines": _write_lines,
        "karpathy": partial(_write_json, content=_karpathy()),
        "coco": partial(_write_json, content=_coco()),
        "list": partial(_write_json, content=_listed()),
    },
    "checkpoint": {
        "last": partial(_copy, names=["run/last.ckpt"]),
        "best": partial(_copy, names=["run/best.ckpt"]),
    },
    "published": {
        "zip": partial(_write_published, zipped=True),
        "older": partial(_write_published, zipped=False),
    },
    "embeddings": {"hdf5": partial(_copy, names=["e.h5"]), "npz": partial(_copy, names=["e.npz"])},
    "result": {"ranks": partial(_write_json, content=_ranks())},
}
"""Writers of the files of every case, by target; one file of a case is damaged at a time."""
