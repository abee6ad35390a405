"""`index` and `search`: what goes in is found, changes are named, and what cannot be is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.collections import record, write_pictures
from typer.testing import Result

from selfalign_cli import Retriever
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.search import layout
from selfalign_cli.search.index import Index

Run = Callable[..., Result]


def changes(result: Result) -> tuple[int, ...]:
    """added, changed, removed, unchanged, total."""
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    return tuple(found[name] for name in ("added", "changed", "removed", "unchanged", "total"))


def must_refuse(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    assert not [word for word in words if word not in result.stderr], result.stderr


def test_an_index_holds_all_that_is_known_of_a_picture(indexed: Path, collection: Path):
    index = Index.open(indexed)
    assert [segment.entry.pictures for segment in index.segments] == [4, 4, 2]
    assert (len(index), index.caption_count) == (10, 15)
    assert index.ids() == [f"p{row}" for row in range(10)]
    known = record(5)
    found = index.picture(index.row_of("p5"))
    assert (found.row, found.file_name, found.size) == (5, "p5.png", (40.0, 30.0))
    assert found.captions == known.captions
    assert found.boxes.tolist() == known.boxes.tolist()
    assert found.features == (collection / "all.h5", 5)
    assert [index.caption(row).picture for row in range(4)] == [0, 1, 1, 2]
    assert index.caption(2).text == "large ball number 1"


def test_vectors_are_those_of_the_model_bit_for_bit(indexed: Path, collection: Path):
    index, retriever = Index.open(indexed), Retriever.load(collection / "model0.ckpt", device="cpu")
    pictures = retriever.encode_pictures(collection / "all.h5")
    for row in range(10):
        assert torch.equal(index.vectors(row).concatenated()[0], pictures.concatenated()[row])
    found = index.search(index.retriever("cpu").encode_texts(["a red ball", "huge ball"]), k=4)
    expected = retriever.search(["a red ball", "huge ball"], pictures, k=4)
    assert torch.equal(found.candidates, expected.candidates)
    assert torch.equal(found.scores, expected.scores)


def test_search_prints_hits_and_names_unknown_words(indexed: Path, run: Run):
    document = json.loads(run("search", "INDEX", "a red zebra", "huge ball", "-k", "2", "--json").stdout)
    assert (document["index"], document["exact"]) == ("INDEX", True)
    first, second = document["queries"]
    assert (first["query"], first["unknown_words"], second["unknown_words"]) == ("a red zebra", ["zebra"], [])
    assert [set(hit) for hit in first["hits"]] == [{"id", "row", "score", "file_name", "captions"}] * 2
    shown = run("search", "INDEX", "a red zebra")
    assert "unknown to the model: zebra" in shown.stderr
    assert shown.stdout.splitlines()[2].split()[:2] == ["1", first["hits"][0]["id"]]


def test_queries_come_from_a_file_too(indexed: Path, run: Run):
    Path("asked.txt").write_text("a red ball\n\n  huge ball \n", encoding="utf-8")
    found = json.loads(run("search", "INDEX", "--queries", "asked.txt", "--json").stdout)
    assert [answer["query"] for answer in found["queries"]] == ["a red ball", "huge ball"]
    Path("asked.txt").write_bytes(b"caf\xe9")
    must_refuse(run("search", "INDEX", "--queries", "asked.txt"), "asked.txt is not UTF-8", "byte 3")
    must_refuse(run("search", "INDEX", "--queries", "-"), "stdin holds no query")


def test_a_picture_finds_its_like_and_captions(indexed: Path, run: Run):
    (answer,) = json.loads(run("search", "INDEX", "--image", "p3", "-k", "9", "--json").stdout)["queries"]
    assert sorted(hit["id"] for hit in answer["hits"]) == [f"p{row}" for row in range(10) if row != 3]
    index = Index.open(indexed)
    told = index.search_captions(index.vectors(3), 9)
    assert [found["text"] for found in answer["captions"]] == [
        index.caption(row).text for row in told.candidates[0].tolist()
    ]
    must_refuse(run("search", "INDEX", "--image", "p33"), "no picture 'p33'", "similar ids: p3")


def test_an_update_says_what_changed_and_encodes_no_more(indexed: Path, collection: Path, run: Run, tmp_path: Path):
    """p0 and p6 go, p4 changes, p10 and p11 come."""
    kept = [record(row, seed=int(row == 4)) for row in range(12) if row not in (0, 6)]
    write_pictures(tmp_path / "next.h5", kept)
    again = ["index", collection / "model0.ckpt", "--device", "cpu", "--out", "INDEX", "--json"]
    before = Index.open(indexed).identity
    assert changes(run(*again, "--update")) == (0, 0, 0, 10, 10)
    assert Index.open(indexed).identity == before
    assert changes(run(*again, "--data", "next.h5", "--update")) == (2, 1, 2, 7, 10)
    index, retriever = Index.open(indexed), Retriever.load(collection / "model0.ckpt", device="cpu")
    assert sorted(index.ids()) == sorted(one.image_id for one in kept)
    fresh = retriever.encode_pictures("next.h5")
    found = index.search(retriever.encode_texts(["a red ball"]), k=20)
    expected = retriever.search(["a red ball"], fresh, k=20)
    assert [index.picture(row).id for row in found.candidates[0].tolist()] == [
        kept[row].image_id for row in expected.candidates[0].tolist()
    ]
    assert torch.equal(found.scores, expected.scores)
    assert (
        index.search_captions(index.vectors(index.row_of("p4")), 99).candidates.shape[1] == index.caption_count == 16
    )
    assert index.find("p0") is None
    with pytest.raises(DataError, match="no picture in row 0 any more"):
        index.picture(0)


def test_add_removes_nothing(indexed: Path, collection: Path, run: Run, tmp_path: Path):
    write_pictures(tmp_path / "more.h5", [record(3), record(20)])
    again = ["index", collection / "model0.ckpt", "--data", "more.h5", "--device", "cpu", "--out", "INDEX", "--json"]
    assert changes(run(*again, "--add")) == (1, 0, 0, 1, 11)
    assert changes(run(*again, "--update")) == (0, 0, 9, 2, 2)
    assert changes(run(*again, "--overwrite")) == (2, 0, 0, 0, 2)
    assert len(list((indexed / "segments").iterdir())) == 1
    assert list((indexed / "dead").iterdir()) == []


def test_what_does_not_belong_together_is_refused(indexed: Path, collection: Path, run: Run, tmp_path: Path):
    one, other = collection / "model0.ckpt", collection / "model1.ckpt"
    must_refuse(run("index", one, "--out", "INDEX"), "INDEX holds an index already", "--update", "--overwrite")
    must_refuse(run("index", other, "--out", "INDEX", "--update"), "another model", "weights")
    must_refuse(run("index", one, "--out", "NONE", "--update"), "NONE does not exist")
    must_refuse(run("index", one, "--out", "INDEX", "--update", "--add"), "exclude each other")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    must_refuse(run("index", one, "--out", "notes"), "notes holds other files")
    must_refuse(run("search", "notes", "a ball"), "notes is no index")
    must_refuse(run("search", "INDEX"), "TEXT, --image ID and --queries")
    must_refuse(run("search", "INDEX", " "), "the query is empty")
    must_refuse(run("search", "INDEX", "ball " * 2001), "10,005 characters")


def test_vectors_of_another_program_are_searched_by_picture(collection: Path, run: Run, tmp_path: Path):
    run("export-embeddings", collection / "model0.ckpt", "--out", "e.h5", "--device", "cpu")
    assert changes(run("index", "e.h5", "--out", "FOREIGN", "--json")) == (10, 0, 0, 0, 10)
    must_refuse(run("search", "FOREIGN", "a ball"), "no model to read a text with", "--image")
    (answer,) = json.loads(run("search", "FOREIGN", "--image", "p3", "--json").stdout)["queries"]
    assert len(answer["hits"]) == 9
    assert changes(run("index", "e.h5", "--out", "FOREIGN", "--update", "--json")) == (0, 0, 0, 10, 10)
    run("export-embeddings", collection / "model1.ckpt", "--out", "other.h5", "--device", "cpu")
    must_refuse(run("index", "other.h5", "--out", "FOREIGN", "--update"), "vectors of the model")
    must_refuse(run("index", collection / "model0.ckpt", "--out", "FOREIGN", "--update"), "not the same kind")
    must_refuse(run("index", "e.h5", "--split", "test", "--out", "OTHER"), "--split: embedding files are encoded")


def test_the_picture_file_is_below_its_folder(indexed: Path, collection: Path, run: Run, tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "p3.png").write_bytes(b"")
    (tmp_path / "secret.png").write_bytes(b"")
    again = ["index", collection / "model0.ckpt", "--device", "cpu", "--out", "INDEX", "--update"]
    assert run(*again, "--pictures", "pictures").exit_code == 0
    index = Index.open(indexed)
    assert (index.picture(3).path, index.picture(4).path) == (pictures / "p3.png", None)
    assert index.picture_file("../secret.png") is None
    assert index.picture_file("p3") == pictures / "p3.png"


def damaged(indexed: Path, kind: str) -> Path:
    (segment, *_) = sorted((indexed / "segments").iterdir())
    manifest = indexed / "manifest.json"
    if kind == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:-30])
    elif kind == "version":
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    elif kind == "cut short":
        data = segment / "data.bin"
        data.write_bytes(data.read_bytes()[:-100])
    elif kind == "segment":
        shutil.rmtree(segment)
    elif kind == "table":
        facts: Any = json.loads((segment / "segment.json").read_text())
        facts["arrays"]["id.ends"]["offset"] = -8
        (segment / "segment.json").write_text(json.dumps(facts))
    elif kind == "model":
        next(indexed.glob("model-*.ckpt")).unlink()
    elif kind == "elsewhere":
        manifest.write_text(manifest.read_text().replace('"name": "', '"name": "../', 1))
    return indexed


@pytest.mark.parametrize("kind", ["manifest", "version", "cut short", "segment", "table", "model", "elsewhere"])
def test_damage_is_named(indexed: Path, run: Run, kind: str):
    damaged(indexed, kind)
    must_refuse(run("search", "INDEX", "a ball"), "INDEX")


def test_only_one_process_changes_an_index(indexed: Path, collection: Path, run: Run):
    with layout.changing(indexed):
        done = run("index", collection / "model0.ckpt", "--out", "INDEX", "--update")
    assert (done.exit_code, "another process is changing INDEX" in done.stderr) == (1, True)


def test_views_and_their_shared_block_are_stored_apart(run: Run, tmp_path: Path):
    """Twenty pictures of three views and a shared block of two numbers, by another program."""
    draw = np.random.default_rng(0)
    views, shared, captions = (draw.normal(size=shape) for shape in ((20, 3, 6), (20, 2), (30, 8)))
    images = np.concatenate([views, np.repeat(shared[:, None], 3, axis=1)], axis=2).astype(np.float32)
    truth = np.arange(30) % 20
    about = np.array(json.dumps({"context_width": 2}))
    np.savez(
        tmp_path / "e.npz", image=images, caption=captions.astype(np.float32), image_of_caption=truth, attrs=about
    )
    assert changes(run("index", "e.npz", "--out", "VIEWS", "--json")) == (20, 0, 0, 0, 20)
    index = Index.open(tmp_path / "VIEWS")
    (segment,) = index.segments
    assert segment.pictures.coarse.pooled.shape == (20, 3, 6)
    assert segment.pictures.coarse.shared.shape == (20, 2)
    asked = torch.from_numpy(captions.astype(np.float32))
    found = index.search(RetrievalVectors(asked[:, :6], asked[:, 6:]), k=7)
    exact = np.einsum("nvd,qd->qnv", images.astype(float), asked.numpy().astype(float)).max(axis=2).astype(np.float32)
    assert found.candidates.tolist() == np.argsort(-exact, axis=1, kind="stable")[:, :7].tolist()
    (answer,) = json.loads(run("search", "VIEWS", "--image", "4", "-k", "3", "--json").stdout)["queries"]
    pairs = np.einsum("vd,nwd->nvw", views[4], views).max(axis=(1, 2)) + shared @ shared[4]
    best = [row for row in np.argsort(-pairs, kind="stable").tolist() if row != 4][:3]
    assert [hit["id"] for hit in answer["hits"]] == [str(row) for row in best]
    assert answer["captions"][0]["text"].startswith("caption ")
