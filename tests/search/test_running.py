"""`search` asks a server of the same state of the index, and nobody else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import Result

from selfalign_cli.search.index import Index
from selfalign_cli.search.running import FILE, announced, running_address

HIT = {"id": "p1", "score": 2.5, "file_name": None, "captions": ["from the server"]}


class Server(BaseHTTPRequestHandler):
    asked: list[dict[str, list[str]]] = []

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.asked.append(query)
        broken = query.get("q") == ["broken"]
        self.send_response(500 if broken else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"hits": [HIT], "unknown_words": ["zebra"], "captions": []}).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Server.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_running_server_answers(indexed: Path, address: str, run: Callable[..., Result]):
    identity = Index.open(indexed).identity
    with announced(indexed, address, identity):
        found = json.loads(run("search", "INDEX", "a zebra & co", "ball", "-k", "3", "--json").stdout)
        assert [answer["query"] for answer in found["queries"]] == ["a zebra & co", "ball"]
        assert found["queries"][0]["hits"] == [HIT]
        assert Server.asked == [{"q": ["a zebra & co"], "k": ["3"]}, {"q": ["ball"], "k": ["3"]}]
        (answer,) = json.loads(run("search", "INDEX", "--image", "p1", "--json").stdout)["queries"]
        assert (answer["image"], Server.asked[-1]) == ("p1", {"image": ["p1"], "k": ["10"]})
        own = json.loads(run("search", "INDEX", "broken", "--json").stdout)
        assert own["queries"][0]["hits"][0]["captions"] != HIT["captions"]
    assert not (indexed / FILE).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "0" * 16},
        {"pid": 2**22 + 1},
        {"pid": "x"},
        {"address": "http://example.org:80"},
        {"address": "http://127.0.0.1:1"},
    ],
)
def test_nobody_else_is_asked(indexed: Path, run: Callable[..., Result], change: dict[str, object]):
    with announced(indexed, "http://127.0.0.1:1", Index.open(indexed).identity):
        told = json.loads((indexed / FILE).read_bytes())
        (indexed / FILE).write_text(json.dumps({**told, **change}))
        assert running_address(indexed) in (None, "http://127.0.0.1:1")
        done = run("search", "INDEX", "a ball", "--json")
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["queries"][0]["hits"]) == 10
