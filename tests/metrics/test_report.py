"""The report: the document, the signature, the table."""

from __future__ import annotations

import json

import torch

from selfalign_cli import __version__
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.recall import rank_folds
from selfalign_cli.metrics.report import HEADER, RetrievalReport, make_report, query_hash, signature_of

NUMBERS = {"r1", "r5", "r10", "median_rank", "mean_rank"}


def report(folds: int = 1) -> RetrievalReport:
    torch.manual_seed(0)
    nothing = torch.zeros(20, 0)
    model = (RetrievalVectors(torch.randn(20, 1, 4), nothing), RetrievalVectors(torch.randn(20, 4), nothing))
    parts, ranks = rank_folds([model], torch.arange(20), folds=folds)
    return make_report(parts, ranks, split="test", signature="split:test", checkpoints=["a.ckpt"], queries="ab12")


def test_document_has_the_promised_keys():
    document = report().to_json()
    assert document.keys() >= {"split", "images", "captions", "folds", "i2t", "t2i", "rsum", "signature"}
    assert (document["images"], document["captions"], document["folds"]) == (20, 20, 1)
    assert document["checkpoints"] == ["a.ckpt"]
    assert document["i2t"].keys() >= NUMBERS <= document["t2i"].keys()
    assert document["per_fold"] == [{name: document[name] for name in ("i2t", "t2i", "rsum")}]
    assert "ranks" not in document
    json.dumps(document, allow_nan=False)


def test_top_level_is_the_mean_of_folds():
    found = report(folds=4)
    assert len(found.per_fold) == 4
    assert found.t2i["r1"] == sum(fold.t2i["r1"] for fold in found.per_fold) / 4
    assert abs(found.rsum - sum(fold.rsum for fold in found.per_fold) / 4) < 1e-9


def test_ranks_in_the_document_are_one_based():
    found = report()
    ranks = found.to_json(ranks=True)["ranks"]
    assert ranks["i2t"] == (found.ranks.i2t_rank + 1).tolist()
    assert sum(ranks["t2i"]) / 20 == found.t2i["mean_rank"]
    assert ranks["image_of_caption"] == list(range(20))


def test_rows_fit_the_header():
    assert {len(row) for row in report().rows()} == {len(HEADER)}


def test_signature():
    sizes = {"split": "test", "images": 1000, "captions": 5000, "folds": 1, "similarity": "dot"}
    head = "split:test|images:1000|captions:5000|folds:1|similarity:dot|ties:worst"
    full = signature_of(**sizes, compat="corrected", recipe="4f1c", data="ab12")
    assert full == f"{head}|compat:corrected|recipe:4f1c|data:ab12|v:{__version__}"
    published = signature_of(**sizes, compat="published", recipe="4f1c", data="ab12", batch=128)
    assert published == f"{head}|compat:published|batch:128|recipe:4f1c|data:ab12|v:{__version__}"
    assert signature_of(**sizes) == f"{head}|v:{__version__}"


def test_query_hash_differs_for_different_queries():
    first = query_hash(["1", "2"], ["a", "bc"], [0, 1])
    assert first == query_hash(["1", "2"], ["a", "bc"], [0, 1])
    assert len({first, query_hash(["1", "2"], ["ab", "c"], [0, 1]), query_hash(["1", "2"], ["a", "bc"], [1, 0])}) == 3
