"""Crisscrossed Captions: the released program's recalls, by hand, and files of another form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from support.golden import golden_root, settings, tensors
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.cxc import recalls_between, recalls_within
from selfalign_cli.scoring.cxc import FILES, cxc_scores

CASES = sorted((golden_root() / "eval").glob("cxc_*.json"))


def judged(found: Any) -> Any:
    return {query: [(str(name), score) for name, score in rows] for query, rows in found.items()}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_recalls(path: Path, dtype: torch.dtype) -> None:
    case, found = settings(path), tensors(path.with_suffix(".safetensors"))
    images, captions = found["images"].to(dtype), found["captions"].to(dtype)
    vectors = (
        RetrievalVectors(images.unsqueeze(1), images.new_zeros(len(images), 0)),
        RetrievalVectors(captions, captions.new_zeros(len(captions), 0)),
    )
    names = {
        **{key: judged(case["it"][key]) for key in ("i2t", "t2i")},
        "i2i": judged(case["i2i"]),
        "t2t": judged(case["t2t"]),
    }
    ids = [[str(name) for name in case[key]] for key in ("image_ids", "caption_ids")]
    per_image = len(ids[1]) // len(ids[0])
    of_caption = [row // per_image for row in range(len(ids[1]))]
    scores = cxc_scores([vectors], ids[0], ids[1], of_caption, names)
    assert scores.keys() == case["results"].keys()
    for name, expected in case["results"].items():
        assert scores[name] == pytest.approx(expected), name


def test_by_hand() -> None:
    """Three queries: the right answer first, second, and none, which counts between kinds and not within one."""
    scores = torch.tensor([[3.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert recalls_between(lambda rows: scores[rows], [[0], [1], []])["r1"] == pytest.approx(100 / 3)
    assert recalls_between(lambda rows: scores[rows], [[0], [1], []])["r5"] == pytest.approx(200 / 3)
    within = recalls_within(lambda rows: scores[rows], [[2], [2], []])  # [0, 1, 2], [3, 0, 1]
    assert (within["r1"], within["r5"]) == (50.0, 100.0)
    assert scores[0, 0] == 3.0


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    path = tmp_path / "e.h5"
    text = h5py.string_dtype()
    eye = torch.eye(3).numpy()
    with h5py.File(path, "w") as file:
        file["image"], file["caption"] = eye[:, None], eye
        file["image_of_caption"] = [0, 1, 2]
        file.create_dataset("image_id", data=["COCO_val2014_000000000007.jpg", "8", "9"], dtype=text)
        file.create_dataset("caption_text", data=["a", "b", "c"], dtype=text)
        file.create_dataset("caption_id", data=["70", "80", "90"], dtype=text)
    return path


def write_judgements(folder: Path, **changes: Any) -> Path:
    contents: dict[str, Any] = {
        "between": {"i2t": {"7": [[70, 5.0]]}, "t2i": {"70": [[7, 5.0]]}},
        "i2i": {"7": [[8, 2.5], [9, 2.4]]},
        "t2t": {"70": [[80, 3.0], [12345, 5.0]]},
    }
    for name, content in {**contents, **changes}.items():
        (folder / FILES[name]).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def run(embeddings: Path, folder: Path) -> Any:
    return CliRunner().invoke(app, ["eval", str(embeddings), "--cxc", str(folder), "--json", "--device", "cpu"])


def test_the_command(tmp_path: Path, embeddings: Path) -> None:
    """Every product but that of an item with itself is 0: all tie, and a tie is no better score."""
    result = run(embeddings, write_judgements(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)["cxc"]
    assert document["i2t"] == pytest.approx({"r1": 100 / 3, "r5": 100 / 3, "r10": 100 / 3})
    assert document["i2i"] == document["t2t"] == {"r1": 100.0, "r5": 100.0, "r10": 100.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"i2i": "{"}, "cxc_i2i.json is not JSON"),
        ({"i2i": [1]}, "cxc_i2i.json holds a list; expected lists by id"),
        ({"t2t": {"70": 3}}, "cxc_t2t.json holds something else than lists of [id, score] by id"),
        ({"between": {"i2t": {}}}, "cxc_it.json has the keys i2t; expected i2t, t2i"),
        ({"i2i": {"1": [[2, 5.0]]}}, "none of these pictures and captions was judged for i2i"),
    ],
)
def test_files_of_another_form(tmp_path: Path, embeddings: Path, changes: dict[str, Any], message: str) -> None:
    result = run(embeddings, write_judgements(tmp_path, **changes))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_file(tmp_path: Path, embeddings: Path) -> None:
    result = run(embeddings, tmp_path)
    assert result.exit_code == 2
    assert "cxc_it.json" in result.stderr
