"""`--ann`: scores stay exact, what came later is found, and recall is measured."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.collections import record, write_pictures
from typer.testing import Result

from selfalign_cli.search.index import Index

Run = Callable[..., Result]

if importlib.util.find_spec("faiss") is None:
    pytest.skip("faiss is not installed", allow_module_level=True)


def answers(run: Run, *options: str) -> list[tuple[str, float]]:
    done = run("search", "INDEX", "a red ball", "-k", "12", "--json", *options)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["exact"] == ("--ann" not in options)
    return [(hit["id"], hit["score"]) for hit in document["queries"][0]["hits"]]


def test_a_graph_of_a_small_collection_misses_nothing(indexed: Path, collection: Path, run: Run, tmp_path: Path):
    again = ["index", collection / "model0.ckpt", "--device", "cpu", "--out", "INDEX", "--update"]
    refused = run("search", "INDEX", "a ball", "--ann")
    assert (refused.exit_code, "has no graph" in refused.stderr) == (2, True)
    made = run(*again, "--ann")
    assert "graph: recall 1.000 of the exact top 10, measured on 15 queries" in made.stderr
    assert answers(run, "--ann") == answers(run)
    write_pictures(tmp_path / "next.h5", [record(row, seed=int(row == 9)) for row in range(4, 14)])
    done = run(*again, "--data", "next.h5")
    assert "what was added is not in the graph" in done.stderr
    assert Index.open(indexed).manifest.graph is not None
    assert len(answers(run)) == 10
    assert answers(run, "--ann") == answers(run)
    (like,) = json.loads(run("search", "INDEX", "--image", "p9", "--ann", "--json").stdout)["queries"]
    (theirs,) = json.loads(run("search", "INDEX", "--image", "p9", "--json").stdout)["queries"]
    assert like == theirs
    run(*again, "--data", "next.h5", "--ann")
    assert len(list(indexed.glob("hnsw-*"))) == 1
    assert answers(run, "--ann") == answers(run)
    graph = next(indexed.glob("hnsw-*"))
    graph.write_bytes(graph.read_bytes()[:100])
    broken = run("search", "INDEX", "a ball", "--ann")
    assert (broken.exit_code, "cannot be read" in broken.stderr) == (2, True)


def test_a_missing_extra_is_named(indexed: Path, collection: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    done = run("index", collection / "model0.ckpt", "--device", "cpu", "--out", "INDEX", "--update", "--ann")
    assert (done.exit_code, "pip install 'selfalign[ann]'" in done.stderr) == (2, True)
    assert len(answers(run)) == 10
