"""`selfalign compare`: two embedding files, two reports, and results that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.recall import rank_folds
from selfalign_cli.metrics.report import make_report, query_hash
from selfalign_cli.scoring.compare import HEADER, compare_files
from selfalign_cli.scoring.embedding_writer import write_embeddings
from selfalign_cli.scoring.embeddings import read_embeddings

TRUTH = torch.arange(60) // 2


def embeddings(path: Path, noise: float, **changes: Any) -> Path:
    """30 pictures with two captions each, retrieved more or less well."""
    torch.manual_seed(0)
    images = torch.randn(30, 16)
    captions = images[TRUTH] + noise * torch.randn(60, 16)
    texts = {"image_ids": [str(row) for row in range(30)], "caption_texts": [f"caption {row}" for row in range(60)]}
    write_embeddings(
        path,
        RetrievalVectors(images.unsqueeze(1), torch.zeros(30, 0)),
        RetrievalVectors(captions, torch.zeros(60, 0)),
        **{"image_of_caption": TRUTH, "attributes": {}, **texts, **changes},
    )
    return path


def report(path: Path, source: Path, folds: int = 1) -> Path:
    """What `eval --json --ranks` prints for an embedding file."""
    file = read_embeddings(source)
    assert file.image_ids is not None
    assert file.caption_texts is not None
    queries = query_hash(file.image_ids, file.caption_texts, file.image_of_caption.tolist())
    parts, ranks = rank_folds([file.vectors], file.image_of_caption, folds=folds)
    made = make_report(parts, ranks, split="test", signature="", queries=queries)
    path.write_text(json.dumps(made.to_json(ranks=True)))
    return path


def test_a_better_file_is_found_better(tmp_path: Path):
    found = compare_files(embeddings(tmp_path / "a.h5", 3.0), embeddings(tmp_path / "b.npz", 0.5))
    by_name = {part.metric: part for part in found.differences}
    assert by_name["rsum"].difference > 0
    assert by_name["rsum"].clear
    assert by_name["t2i.mean_rank"].high < 0
    assert (found.images, found.captions) == (30, 60)
    assert {len(row) for row in found.rows()} == {len(HEADER)}
    json.dumps(found.to_json(), allow_nan=False)


def test_a_report_compares_like_the_embeddings_behind_it(tmp_path: Path):
    first, second = embeddings(tmp_path / "a.h5", 3.0), embeddings(tmp_path / "b.h5", 0.5)
    expected = compare_files(first, second).differences
    assert compare_files(report(tmp_path / "a.json", first), second).differences == expected


def test_other_texts_are_other_queries(tmp_path: Path):
    first = embeddings(tmp_path / "a.h5", 1.0)
    second = embeddings(tmp_path / "b.h5", 1.0, caption_texts=["x"] * 60)
    with pytest.raises(DataError, match="different queries"):
        compare_files(first, second)


def test_other_folds_are_not_compared(tmp_path: Path):
    first = embeddings(tmp_path / "a.h5", 1.0)
    with pytest.raises(DataError, match="in 1 folds, .* in 3"):
        compare_files(first, report(tmp_path / "b.json", first, folds=3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "neither JSON nor an embedding file"),
        ("[]", "holds no ranks of single queries"),
        ('{"split": "test"}', "holds no ranks of single queries"),
        ('{"ranks": {"i2t": [1], "t2i": [1]}}', "ranks.image_of_caption is missing"),
        (
            '{"ranks": {"i2t": [1.5], "t2i": [1], "image_of_caption": [0]}}',
            "ranks.i2t is missing or not a list of whole",
        ),
        ('{"ranks": {"i2t": [0], "t2i": [1], "image_of_caption": [0]}}', "expected one rank >= 1 per query"),
        ('{"ranks": {"i2t": [1], "t2i": [1, 2], "image_of_caption": [0]}}', "expected one rank >= 1 per query"),
        ('{"ranks": {"i2t": [1], "t2i": [], "image_of_caption": []}}', "expected one rank >= 1 per query"),
        ('{"ranks": {"i2t": [1, 1], "t2i": [1], "image_of_caption": [0]}}', "1 of 2 pictures have no caption"),
    ],
)
def test_faulty_reports_are_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        compare_files(tmp_path / "a.json", embeddings(tmp_path / "b.h5", 1.0))


def test_a_missing_report_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        compare_files(tmp_path / "a.json", tmp_path / "b.json")
