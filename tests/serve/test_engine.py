"""A collection of an engine is served as an index is; the engine here is an index folder behind the port."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.errors import DataError, RunError
from selfalign_cli.search.answer import answer_image, answer_texts
from selfalign_cli.search.engines.folder import FolderEngine
from selfalign_cli.search.index import Index
from selfalign_cli.serve import engine as module
from selfalign_cli.serve.engine import ServedEngine

QUERY = "a red star left of a zebra"
ADDRESS = "postgresql://me@localhost/pictures"


@pytest.fixture
def served(index: Path, monkeypatch: pytest.MonkeyPatch) -> ServedEngine:
    monkeypatch.setattr(module, "open_engine", lambda address: FolderEngine(index))
    return ServedEngine(ADDRESS, model=None, pictures=(), device="cpu")


def without_rows(hits: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in hit.items() if name != "row"} for hit in hits]


def test_it_answers_as_the_index_does(served: ServedEngine, index: Path):
    found = served.ask("search", {"q": QUERY, "k": "7", "from": "2"})
    expected = answer_texts(Index.open(index), [QUERY], 9, device="cpu")["queries"][0]
    assert without_rows(found["hits"]) == without_rows(expected["hits"][2:])
    assert (found["unknown_words"], found["of"], found["exact"]) == (["zebra"], 67, True)
    like = served.ask("search", {"image": "s3", "k": "5"})
    assert without_rows(like["hits"]) == without_rows(answer_image(Index.open(index), "s3", 5)["queries"][0]["hits"])
    assert served.ask("about", {})["pictures"] == 67


def test_pictures_are_those_that_were_found(served: ServedEngine, index: Path):
    hits = served.ask("search", {"q": QUERY, "k": "67"})["hits"]
    rows = {hit["id"]: hit["row"] for hit in hits}
    assert len(set(rows.values())) == 67
    assert served.ask("picture", {"row": str(rows["plain.png"])})["captions"] == [
        "a red star left of a ring",
        "a blue square",
    ]
    assert served.picture_path(rows["plain.png"]) == index.parent / "pictures" / "plain.png"
    for name in ("../secret.png", "link.png", "gone.png"):
        assert served.picture_path(rows[name]) is None
    again = served.ask("search", {"q": "a ring", "k": "67"})["hits"]
    assert {hit["id"]: hit["row"] for hit in again} == rows
    for question, asked, reason in (
        ("picture", {"row": "67"}, "no picture was found in row 67"),
        ("explain", {"row": "0", "q": QUERY}, "scores are not explained"),
        ("search", {"image": "nobody"}, "has no picture 'nobody'"),
        ("search", {"q": " "}, "the query is empty"),
    ):
        with pytest.raises(DataError, match=reason):
            served.ask(question, asked)


def test_what_was_found_first_is_forgotten_first(served: ServedEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 10)
    served.ask("search", {"q": QUERY, "k": "67"})
    assert len(served._known) == len(served._rows) == 10
    with pytest.raises(DataError, match="no picture was found in row 0"):
        served.picture_path(0)


def test_an_engine_that_was_away_is_connected_to_again(served: ServedEngine, monkeypatch: pytest.MonkeyPatch):
    def away(self: FolderEngine, query: object, k: int) -> None:
        raise RunError("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(FolderEngine, "search", away)
        with pytest.raises(RunError):
            served.ask("search", {"q": QUERY})
    assert served.ask("search", {"q": QUERY})["hits"]


def test_what_is_no_collection_is_refused(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "open_engine", lambda address: FolderEngine(tmp_path))
    for given, reason in (
        (["milvus:nothing.db"], "holds no collection"),
        ([index, "--model", "x.ckpt"], "--model is for engines"),
    ):
        result = CliRunner().invoke(app, ["serve", *map(str, given)])
        assert (result.exit_code, result.stdout) == (2, "")
        assert reason in result.stderr
