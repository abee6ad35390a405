"""What a server must survive, and what it must never give away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.processes import Forks
from support.serving import Server, start_server, until_closed

from selfalign_cli.search.index import Index
from selfalign_cli.serve.protocol import MOST_WAITING
from selfalign_cli.serve.thumbnails import Thumbnails

SHORT = """
import selfalign_cli.serve.protocol as protocol
protocol.BoundedProtocol.request_seconds = 1.0
protocol.BoundedProtocol.answer_seconds = 1.0
"""
ASK = "GET /api/about HTTP/1.1\r\nHost: %s\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(forks: Forks, index: Path) -> Iterator[Server]:
    """A server that waits for a second only."""
    running = start_server(forks, index, before=SHORT)
    yield running
    running.stop()


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/picture/../../../../etc/passwd",
        "/picture/..%2f..%2fsecret.png/small",
        "/picture/0/..%2flarge",
        "/picture/-1/small",
        "/picture/99999999999999999999/small",
        "/picture/0/original",
        "/static/../app.py",
        "/manifest.json",
        "//etc/passwd",
    ],
)
def test_there_is_no_other_file(server: Server, path: str):
    status, body, _ = server.get(path)
    assert status == 404
    assert b"root:" not in body
    assert len(body) < 300


@pytest.mark.parametrize("name", ["../secret.png", "link.png", "text.png", "gone.png"])
def test_pictures_outside_or_that_are_none_are_not_sent(server: Server, index: Path, name: str):
    """A name that leads out of the folder, a link that does, a file that is no picture, and one that is gone."""
    row = Index.open(index).row_of(name)
    status, body, _ = server.get(f"/picture/{row}/large")
    assert status == 404
    assert b"root" not in body
    assert server.api("picture", row=row)["id"] == name
    assert server.api("explain", row=row, q="a ring")["image"] == name


def test_a_picture_that_vanishes_while_it_is_served(forks: Forks, own_index: Path):
    pictures = own_index.parent / "pictures"
    running = start_server(forks, own_index)
    row = Index.open(own_index).row_of("plain.png")
    assert running.get(f"/picture/{row}/small")[0] == 200
    (pictures / "plain.png").unlink()
    assert running.get(f"/picture/{row}/small")[0] == 404
    assert running.api("search", q="a red star", k=3)["hits"]
    running.stop()


def test_nothing_goes_out_as_it_lies(tmp_path: Path):
    """What a file hides behind its pixels stays here."""
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    path.write_bytes(path.read_bytes() + b"secret")
    assert b"secret" not in Thumbnails().get(path, "small").content


def test_pictures_that_are_kept_are_bounded(tmp_path: Path):
    kept = Thumbnails(most_bytes=300)
    for number in range(9):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        assert kept.get(tmp_path / f"{number}.png", "small").size == (8, 8)
    assert kept._bytes <= 300
    assert len(kept._kept) < 9


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:{port}", "", "localhost:1"]
)
def test_a_foreign_host_is_refused(server: Server, host: str):
    answer = server.raw(f"GET / HTTP/1.1\r\nHost: {host.format(port=server.port)}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"not known by that name" in answer


def test_two_hosts_and_none_are_refused(server: Server):
    own = f"Host: 127.0.0.1:{server.port}\r\n"
    assert server.raw(f"GET / HTTP/1.1\r\n{own}Host: evil\r\n\r\n".encode()).startswith(b"HTTP/1.1 400")
    assert server.raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert server.get("/", Host=f"localhost:{server.port}")[0] == 200


def test_nothing_can_be_changed(server: Server):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert server.get("/api/search?q=a", method)[0] == 405


def test_every_answer_says_what_browsers_may_do(server: Server):
    for path in ("/", "/app.js", "/api/about", "/picture/0/small", "/nothing", "/api/search"):
        headers = server.get(path)[2]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert server.get("/evil", Host="evil")[2]["x-content-type-options"] == "nosniff"


def test_huge_questions_are_refused(server: Server):
    assert server.get("/api/search?q=" + "a" * 1001)[0] == 400
    assert "1,001 characters" in server.api("search", q="a" * 1001)["error"]
    assert server.get("/api/search?q=" + "a" * 9000)[0] == 414
    assert server.get("/api/about", Padding="a" * 15000, More="b" * 1500)[0] in (400, 431)
    assert server.raw(b"GET /" + b"a" * 100_000).startswith(b"HTTP/1.1 400")
    assert server.api("about")["pictures"] == 67


def test_half_open_connections_keep_nobody_out(server: Server):
    crowd = [server.connect() for _ in range(3 * MOST_WAITING)]
    try:
        for client in crowd[::2]:
            client.sendall(b"GET / HT")
        for _ in range(5):
            assert server.api("about")["pictures"] == 67
    finally:
        for client in crowd:
            client.close()


def test_slow_clients_are_hung_up_on(hasty: Server):
    with hasty.connect() as silent, hasty.connect() as slow:
        began = time.monotonic()
        slow.sendall(b"GET /api/about HTTP/1.1\r\nHost: ")
        slow.settimeout(0.2)
        while time.monotonic() - began < 20:  # a byte now and then
            try:
                slow.sendall(b"x")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 10
        assert until_closed(silent) == b""
    assert hasty.api("about")["pictures"] == 67


def test_a_client_that_does_not_read_is_hung_up_on(hasty: Server):
    with hasty.connect() as client:
        question = b"GET /app.js HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % hasty.port
        client.sendall(question * 100)  # in one go, and reads nothing
        time.sleep(2.5)
        answers = until_closed(client)
    assert answers.count(b"HTTP/1.1 200") < 200
    assert hasty.api("about")["pictures"] == 67


def test_hostile_text_comes_as_json(server: Server, index: Path):
    row = Index.open(index).row_of("<img src=x onerror=document.title='owned'>")
    status, body, headers = server.get(f"/api/picture?row={row}")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["captions"][0].startswith("<script>")
