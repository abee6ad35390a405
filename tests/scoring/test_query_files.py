"""`eval --weights`, `--details` and `--trec` on embedding files small enough to score by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.embedding_writer import write_embeddings
from selfalign_cli.scoring.evaluate import score_files
from selfalign_cli.scoring.query_files import TREC_FILES, write_details, write_trec

SCORES = [[0.5, 0.25, 0.75], [0.25, 0.5, 0.5]]
"""Captions 0 and 1 are about picture 0, caption 2 about picture 1. Picture 0 finds caption 2 first, caption 2
picture 0 and caption 1 picture 1; picture 1 has caption 1 and its own at .5, which counts against it."""


def embeddings(path: Path, scores: list[list[float]] = SCORES, **changes: Any) -> Path:
    """Pictures are unit vectors, so that captions are the columns of the scores."""
    table = torch.tensor(scores)
    given: dict[str, Any] = {
        "image_of_caption": torch.tensor([0, 0, 1]),
        "image_ids": ["cat 1", "50%"],
        "caption_texts": ["a cat", "日本", "a dog"],
        "caption_ids": ["c0", "c1", "c2"],
        "attributes": {"split": "test"},
    }
    images, captions = torch.eye(len(table)).unsqueeze(1), table.T.contiguous()
    vectors = RetrievalVectors(images, images[:, 0, :0]), RetrievalVectors(captions, captions[:, :0])
    write_embeddings(path, *vectors, **{**given, **changes})
    return path


def test_details_by_hand(tmp_path: Path):
    write_details(tmp_path / "d.jsonl", score_files([embeddings(tmp_path / "e.h5")], device="cpu"))
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["direction"], line["row"], line["rank"], line["best"]["row"]) for line in lines] == [
        *(("i2t", 0, 2, 2), ("i2t", 1, 2, 1)),
        *(("t2i", 0, 1, 0), ("t2i", 1, 2, 1), ("t2i", 2, 2, 0)),
    ]
    assert lines[0] == {
        "direction": "i2t",
        "row": 0,
        "id": "cat 1",
        "rank": 2,
        "best": {"row": 2, "id": "c2", "text": "a dog", "score": 0.75},
        "true": [{"row": 0, "id": "c0", "text": "a cat"}, {"row": 1, "id": "c1", "text": "日本"}],
    }
    assert lines[3] == {
        "direction": "t2i",
        "row": 1,
        "id": "c1",
        "text": "日本",
        "rank": 2,
        "best": {"row": 1, "id": "50%", "score": 0.5},
        "true": [{"row": 0, "id": "cat 1"}],
    }


def test_trec_files_by_hand(tmp_path: Path):
    write_trec(tmp_path / "trec", score_files([embeddings(tmp_path / "e.h5")], device="cpu"), depth=2)
    found = {name: (tmp_path / "trec" / name).read_text().splitlines() for name in TREC_FILES}
    assert found["i2t.run"] == [
        "cat%201 Q0 c2 1 0.75 selfalign",
        "cat%201 Q0 c0 2 0.5 selfalign",
        "50%25 Q0 c1 1 0.5 selfalign",
        "50%25 Q0 c2 2 0.5 selfalign",
    ]
    assert found["t2i.run"][:2] == ["c0 Q0 cat%201 1 0.5 selfalign", "c0 Q0 50%25 2 0.25 selfalign"]
    assert found["i2t.qrels"] == ["cat%201 0 c0 1", "cat%201 0 c1 1", "50%25 0 c2 1"]
    assert found["t2i.qrels"] == ["c0 0 cat%201 1", "c1 0 cat%201 1", "c2 0 50%25 1"]


def test_captions_without_ids_go_by_their_row(tmp_path: Path):
    write_trec(tmp_path, score_files([embeddings(tmp_path / "e.h5", caption_ids=None)], device="cpu"), depth=1)
    assert (tmp_path / "t2i.qrels").read_text().splitlines()[2] == "2 0 50%25 1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"image_ids": ["a", "a"]}, "'a' occurs 2"), ({"caption_ids": ["", "b", "c"]}, "empty id")],
)
def test_ambiguous_names_are_refused_and_nothing_is_written(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        write_trec(tmp_path / "trec", score_files([embeddings(tmp_path / "e.h5", **changes)], device="cpu"), depth=1)
    assert not (tmp_path / "trec").exists()


def test_weights_by_hand(tmp_path: Path):
    """3 · .25 + 1 · .5 over 4 against 3 · .5 + 0: with the second file three times as heavy, caption 0 loses."""
    files = [embeddings(tmp_path / "a.h5"), embeddings(tmp_path / "b.h5", [[0.25, 0.5, 0.0], [0.5, 0.0, 0.5]])]
    heavy = score_files(files, weights=[1.0, 3.0], device="cpu")
    assert heavy.report.ranks.t2i_rank.tolist() == [1, 0, 0]
    assert heavy.report.ranks.t2i_score.tolist() == pytest.approx([1.75 / 4, 1.75 / 4, 0.5])
    assert "|weights:1,3|" in heavy.report.signature
    ((_, found),) = heavy.top(1)
    assert found.scores[:, 0].tolist() == heavy.report.ranks.t2i_score.tolist()


def test_equal_weights_are_none(tmp_path: Path):
    files = [embeddings(tmp_path / "a.h5")] * 2
    weighted, plain = score_files(files, weights=[2.0, 2.0], device="cpu"), score_files(files, device="cpu")
    assert weighted.report.signature == plain.report.signature


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -2.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_weights_that_do_not_fit(tmp_path: Path, weights: list[float]):
    with pytest.raises(DataError, match="weight"):
        score_files([embeddings(tmp_path / "a.h5")] * 2, weights=weights)
