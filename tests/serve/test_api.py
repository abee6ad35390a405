"""What the API answers, and that a running server is told apart from one that ended."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from support.processes import Forks
from support.records import make_record, write_records
from support.serving import Server, start_server
from typer.testing import CliRunner

from selfalign_cli import Retriever
from selfalign_cli.cli.app import app
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.explain.explanation import explain, leave_outs
from selfalign_cli.search.answer import answer_image, answer_texts
from selfalign_cli.search.index import Index
from selfalign_cli.search.running import asked, running_address

QUERY = "a red star left of a zebra"


def test_a_search_is_that_of_the_command(server: Server, index: Path):
    expected = answer_texts(Index.open(index), [QUERY], 10, device="cpu")["queries"][0]
    found = server.api("search", q=QUERY, k=10)
    assert found["queries"] == [expected]
    assert (found["hits"], found["unknown_words"], found["exact"]) == (expected["hits"], ["zebra"], True)
    assert (found["of"], found["from"]) == (67, 0)
    further = server.api("search", q=QUERY, k=4, **{"from": 3})
    assert further["hits"] == expected["hits"][3:7]
    assert server.api("search", q=QUERY, k=5, **{"from": 66})["hits"][0]["score"] < expected["hits"][-1]["score"]


def test_the_level_of_unrelated_captions(server: Server):
    """Every caption of the index is one of the 256; ten or so of them reach what 95 % do not."""
    found = server.api("search", q=QUERY, k=67)
    scores = [hit["score"] for hit in found["hits"]]
    assert min(scores) < found["unrelated"] < max(scores) * 2


def test_similar_pictures(server: Server, index: Path):
    found = server.api("search", image="s3", k=5)
    assert found["queries"] == answer_image(Index.open(index), "s3", 5)["queries"]
    assert found["captions"]
    assert "s3" not in {hit["id"] for hit in found["hits"]}
    assert found["unrelated"] is None


def test_a_picture(server: Server, index: Path):
    row = Index.open(index).row_of("plain.png")
    about = server.api("picture", row=row)
    assert (about["id"], about["size"], about["shown"]) == ("plain.png", [40, 30], True)
    assert (len(about["boxes"]), len(about["found_captions"])) == (10, 5)
    status, body, headers = server.get(f"/picture/{row}/small")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert Image.open(BytesIO(body)).getpixel((5, 5)) == (255, 0, 0)


def test_an_explanation_is_that_of_the_command(server: Server, index: Path, unbroken: Path):
    retriever = Retriever.load(unbroken / "best.ckpt", device="cpu")
    row = Index.open(index).row_of("s7")
    file = retriever.open_features(index.parent / "mine.h5")
    expected = explain(retriever, leave_outs(retriever, file, file.image_ids.index("s7")), QUERY, off=[1, 2]).to_json()
    found = server.api("explain", row=row, q=QUERY, off="1,2")
    assert {name: found[name] for name in expected} == json.loads(json.dumps(expected))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/api/search", "expected one of q=TEXT and image=ID"),
        ("/api/search?q=a&image=b", "expected one of q=TEXT and image=ID"),
        ("/api/search?q=%20", "the query is empty"),
        ("/api/search?q=a&k=0", "k is 0; expected 1 to 200"),
        ("/api/search?q=a&k=1e9", "k: expected a whole number"),
        ("/api/search?q=a&from=-1", "from: expected a whole number"),
        ("/api/search?image=nobody", "has no picture 'nobody'"),
        ("/api/picture?row=67", "no row 67"),
        ("/api/explain?row=0&q=a&off=x", "off: expected places of words"),
        ("/api/explain?row=0&q=a&off=9", "no word 9"),
    ],
)
def test_wrong_questions_are_refused(server: Server, path: str, reason: str):
    status, body, _ = server.get(path)
    assert status == 400
    assert reason in json.loads(body)["error"]


def test_search_asks_it(server: Server, index: Path):
    assert running_address(index) == server.address
    document = asked(index, [QUERY, "a ring"], None, 3)
    assert document == answer_texts(Index.open(index), [QUERY, "a ring"], 3, device="cpu")
    assert asked(index, ["x" * 5000], None, 3) is None  # the server refuses, and search says why itself


def test_it_is_gone_once_it_ends(forks: Forks, own_index: Path):
    running = start_server(forks, own_index)
    assert running_address(own_index) == running.address
    assert running.stop(signal.SIGTERM).code == -signal.SIGTERM
    assert not (own_index / "serve.json").exists()
    again = start_server(forks, own_index)
    done = again.stop(signal.SIGINT)
    assert (done.code, done.err.splitlines()[-1]) == (130, "interrupted")
    killed = start_server(forks, own_index)
    killed.stop(signal.SIGKILL)
    assert (own_index / "serve.json").exists()
    assert asked(own_index, ["a ring"], None, 3) is None


def test_the_index_may_be_replaced_while_it_is_served(forks: Forks, own_index: Path, unbroken: Path):
    running = start_server(forks, own_index)
    before = running.api("about")
    other = own_index.parent / "few.h5"
    rebuilt = ["index", unbroken / "best.ckpt", "--data", other, "--out", own_index, "--update", "--device", "cpu"]
    whole = FeatureFile(own_index.parent / "mine.h5")
    some = [make_record(image_id=f"s{n}", features=whole.regions(7 + n), boxes=whole.boxes(7 + n)) for n in range(30)]
    write_records(other, [replace(record, caption_ids=None, file_name=None) for record in some])
    result = CliRunner().invoke(app, [str(part) for part in rebuilt])
    assert result.exit_code == 0, result.output
    after = running.api("about")
    assert (before["pictures"], after["pictures"]) == (67, 30)
    assert after["identity"] == Index.open(own_index).identity != before["identity"]
    assert running_address(own_index) == running.address
    assert len(running.api("search", q=QUERY, k=50)["hits"]) == 30
    (own_index / "manifest.json").write_text("{")
    assert running.api("about") == after  # goes on with what it had
    shutil.rmtree(own_index)
    assert len(running.api("search", q=QUERY, k=50)["hits"]) == 30
    said = running.stop().err
    assert "has changed: 30 pictures" in said
    assert "cannot be opened, so it is served as it was" in said


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        (["--host", "0.0.0.0"], 2, "add --yes-public if that is meant"),
        (["--host", "example.org"], 2, "expected an IP address"),
        (["--port", "{taken}"], 1, "another --port"),
    ],
)
def test_where_it_does_not_listen(server: Server, index: Path, more: list[str], code: int, reason: str):
    taken = [part.format(taken=server.port) for part in more]
    result = CliRunner().invoke(app, ["serve", str(index), *taken, "--device", "cpu"])
    assert (result.exit_code, result.stdout) == (code, "")
    assert reason in result.stderr
