"""`export-embeddings --layout`: what other programs read, read the way they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.embeddings import EmbeddingFile
from selfalign_cli.scoring.layouts import check_layout, files_of, write_layout

IDS, TEXTS = ["7", "ä\tb", "x.jpg"], ["Ein Müller", "日本語", "a\ncat", ""]


def encoded(views: int = 1) -> EmbeddingFile:
    torch.manual_seed(0)
    return EmbeddingFile(
        RetrievalVectors(torch.randn(3, views, 5), torch.randn(3, 2)),
        RetrievalVectors(torch.randn(4, 5), torch.randn(4, 2)),
        torch.tensor([2, 0, 1, 1]),
        IDS,
        TEXTS,
        {"similarity": "dot", "signature": "split:test"},
        file_names=["7.png", "b.png", "x.jpg"],
    )


def table(path: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(path)


def test_clip_retrieval_finds_rows_that_belong_together(tmp_path: Path):
    pytest.importorskip("pyarrow")
    made = encoded()
    write_layout("clip-retrieval", tmp_path / "out", made)
    images, texts = (np.load(tmp_path / f"out/{side}_emb/{side}_emb_0.npy") for side in ("img", "text"))
    metadata = table(tmp_path / "out/metadata/metadata_0.parquet")
    assert metadata.column_names == ["image_path", "id", "caption"]
    assert metadata["image_path"].to_pylist() == ["7.png", "b.png", "x.jpg"]
    assert metadata["caption"].to_pylist() == ["日本語", "a\ncat", "Ein Müller"]
    assert metadata.schema.metadata[b"similarity"] == b"dot"
    np.testing.assert_array_equal(images, made.images.concatenated()[:, 0].half().numpy())
    np.testing.assert_array_equal(texts, made.captions.concatenated()[[1, 2, 0]].half().numpy())


def test_two_tables_keep_pictures_and_captions_apart(tmp_path: Path):
    pytest.importorskip("pyarrow")
    made = encoded(views=3)
    write_layout("two-tables", tmp_path / "e.parquet", made)
    pictures, captions = table(tmp_path / "e.images.parquet"), table(tmp_path / "e.captions.parquet")
    assert pictures["id"].to_pylist() == [name for name in IDS for _ in range(3)]
    assert pictures["view"].to_pylist() == [0, 1, 2] * 3
    assert captions["picture"].to_pylist() == ["x.jpg", "7", "ä\tb", "ä\tb"]
    found = (
        np.array(pictures["vector"].to_pylist(), np.float32) @ np.array(captions["vector"].to_pylist(), np.float32).T
    )
    expected = made.images.concatenated().flatten(0, 1) @ made.captions.concatenated().T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for one in (pictures, captions):
        assert one.schema.metadata[b"similarity"] == b"dot"
        assert json.loads(one.schema.metadata[b"selfalign"])["signature"] == "split:test"


def test_the_projector_gets_a_row_of_metadata_for_each_row_of_numbers(tmp_path: Path):
    made = encoded()
    write_layout("projector", tmp_path / "e.tsv", made)
    vectors = np.loadtxt(tmp_path / "e.tsv", delimiter="\t", dtype=np.float32)
    lines = (tmp_path / "e.metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert (vectors.shape, len(lines)) == ((7, 7), 8)
    assert all(line.count("\t") == 2 for line in lines)
    assert (lines[2], lines[6]) == ("picture\tä b\t", "caption\tä b\ta cat")
    both = torch.cat([made.images.concatenated()[:, 0], made.captions.concatenated()])
    np.testing.assert_array_equal(vectors, both.numpy())


def test_what_a_layout_cannot_hold_is_refused(tmp_path: Path):
    pytest.importorskip("pyarrow")
    for layout, name in (("clip-retrieval", "out"), ("projector", "e.tsv")):
        with pytest.raises(DataError, match="3 views; this layout holds one vector a picture"):
            write_layout(layout, tmp_path / name, encoded(views=3))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"--layout projector writes \.tsv files"):
        check_layout("projector", tmp_path / "e.h5", False)
    write_layout("projector", tmp_path / "e.tsv", encoded())
    with pytest.raises(DataError, match="exists already"):
        check_layout("projector", tmp_path / "e.tsv", False)
    assert len(files_of("projector", tmp_path / "e.tsv")) == 2
