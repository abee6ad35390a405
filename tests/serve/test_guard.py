"""Who is answered, and how many may wait: without a socket."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from selfalign_cli.serve.app import MOST_WAITING, BusyError, Turns
from selfalign_cli.serve.guard import Guard


def status_for(host: str, *, any_address: bool, names: frozenset[str] = frozenset({"127.0.0.1:80"})) -> int:
    """The status of an answer to a request with this host."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", host.encode())],
    }
    asyncio.run(Guard(app, names=names, any_address=any_address)(scope, None, send))  # type: ignore[arg-type]
    return int(sent[0]["status"])


@pytest.mark.parametrize("host", ["192.168.1.7:80", "[fe80::1]:80", "10.0.0.1", "[::1]"])
def test_addresses_count_only_where_others_may_come(host: str):
    assert status_for(host, any_address=False) == 400
    assert status_for(host, any_address=True) == 200


@pytest.mark.parametrize("host", ["evil.example:80", "192.168.1.7.evil.example", "0x7f000001.evil", ":80", "[::1"])
def test_names_never_pass_for_addresses(host: str):
    assert status_for(host, any_address=True) == 400


def test_names_that_were_given_count():
    assert status_for("127.0.0.1:80", any_address=False) == 200
    assert status_for("Pictures.Example:80", any_address=True, names=frozenset({"pictures.example:80"})) == 200


def test_few_questions_wait():
    """One is answered, `MOST_WAITING` in all are held, and the next is told to come again at once."""
    go = threading.Event()

    async def crowd() -> list[Any]:
        turns = Turns()
        held = [
            asyncio.create_task(turns.take(lambda number=number: (go.wait(20), number)[1]))
            for number in range(MOST_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await turns.take(lambda: None)
        go.set()
        found = await asyncio.gather(*held)
        assert turns.waiting == 0
        return found

    assert asyncio.run(crowd()) == list(range(MOST_WAITING))
