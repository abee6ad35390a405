"""`eval --eccv`: against the real package where it is installed, on a few of its pictures; and what is refused."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.eccv import open_metrics, with_eccv
from selfalign_cli.scoring.embedding_writer import write_embeddings
from selfalign_cli.scoring.evaluate import Evaluation, score_files

INSTALLED = importlib.util.find_spec("eccv_caption") is not None
PICTURES, CAPTIONS = [391895, 42, 7], [100, 101, 102, 103, 104]


@pytest.fixture
def metrics(tmp_path: Path) -> Any:
    """The package's own code, on three pictures; caption 103 fits picture 42 too."""
    if not INSTALLED:
        pytest.skip("eccv-caption is not installed: pip install 'selfalign[metrics]'")
    metrics = open_metrics()
    truths = {
        "coco": {391895: [100, 101], 42: [102], 7: [103, 104]},
        "cxc": {391895: [100, 101], 42: [102, 103], 7: [103, 104]},
        "eccv": {42: [102, 103], 7: [103, 104]},
    }
    for name, i2t in truths.items():
        t2i = {caption: [image for image in i2t if caption in i2t[image]] for caption in CAPTIONS}
        paths = [tmp_path / f"{name}_{direction}.json" for direction in ("i2t", "t2i")]
        for path, truth in zip(paths, (i2t, {key: right for key, right in t2i.items() if right}), strict=True):
            path.write_text(json.dumps(truth))
        getattr(metrics, f"set_{name}_gts")(*map(str, paths))
    return metrics


def evaluation(folder: Path, **changes: Any) -> Evaluation:
    """S = rows of three pictures; caption 105 is one that the package does not know."""
    scores = torch.tensor(
        [[0.9, 0.8, 0.1, 0.0, 0.2, 1.0], [0.1, 0.0, 0.7, 0.3, 0.6, 1.0], [0.0, 0.1, 0.9, 0.5, 0.4, 1.0]]
    )
    images, captions = torch.eye(3).unsqueeze(1), scores.T.contiguous()
    given: dict[str, Any] = {
        "image_of_caption": torch.tensor([0, 0, 1, 2, 2, 2]),
        "image_ids": ["COCO_val2014_000000391895.jpg", "42", "000000000007.jpg"],
        "caption_texts": list("abcdef"),
        "caption_ids": [*map(str, CAPTIONS), "105"],
        "attributes": {},
    }
    vectors = RetrievalVectors(images, images[:, 0, :0]), RetrievalVectors(captions, captions[:, :0])
    write_embeddings(folder / "e.h5", *vectors, **{**given, **changes})
    return score_files([folder / "e.h5"], device="cpu")


def test_scores_by_hand(tmp_path: Path, metrics: Any):
    """Picture 42 finds 102, 104, 103 (R = 2: precision 1/2, average (1 + 0) / 2); picture 7 finds 102, 103, 104:
    R-precision 1/2, average (0 + 1/2) / 2. Captions 102, 103 and 104 find 7, 7 and 42 first, 42, 42 (R = 2 of 103)
    and 7 next: R-precisions 0, 1 and 0, averages 0, 1 and 0."""
    found = with_eccv(evaluation(tmp_path), metrics).report.eccv
    assert found is not None
    assert found["eccv_map_at_r"] == pytest.approx({"i2t": 37.5, "t2i": 100 / 3})
    assert found["eccv_rprecision"] == pytest.approx({"i2t": 50.0, "t2i": 100 / 3})
    assert found["eccv_r1"] == pytest.approx({"i2t": 50.0, "t2i": 100 / 3})
    assert found["cxc_r1"] == pytest.approx({"i2t": 200 / 3, "t2i": 60.0})
    assert found["cxc_r5"] == pytest.approx({"i2t": 100.0, "t2i": 100.0})


def test_scores_do_not_depend_on_folds(tmp_path: Path, metrics: Any):
    whole = with_eccv(evaluation(tmp_path), metrics).report.eccv
    assert with_eccv(score_files([tmp_path / "e.h5"], folds=3, device="cpu"), metrics).report.eccv == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption_ids": None}, "has no caption ids"),
        ({"image_ids": ["cat", "42", "7"]}, "'cat' is none"),
        ({"image_ids": ["1", "42", "7"]}, "1 of them are missing"),
        ({"caption_ids": ["0", "1", "2", "3", "4", "5"]}, "5 of them are missing"),
        ({"caption_ids": ["100", "100", "101", "102", "103", "104"]}, "occur twice"),
    ],
)
def test_ids_that_are_not_those_of_coco(tmp_path: Path, metrics: Any, changes: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        with_eccv(evaluation(tmp_path, **changes), metrics)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "eccv_caption", None)
    with pytest.raises(DataError, match="eccv-caption, which is not installed") as fault:
        open_metrics()
    assert fault.value.hint is not None
    assert "selfalign[metrics]" in fault.value.hint
