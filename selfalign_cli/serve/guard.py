"""In front of the application: who may ask, how much, and what browsers may do with the answers."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST_ADDRESS, LARGEST_HEADERS = 8192, 16384
"""Bytes of path and query, and of all headers."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]


class Guard:
    """Refuses what no page of ours asks, and marks every answer.

    A `Host` that is not ours means that another name was made to lead here (DNS rebinding): the browser would let
    the page of that name read our answers.

    Args:
        app: the application.
        names: hosts that are ours, in lower case, with port.
        any_address: IP addresses are ours too; no name can be rebound to look like one.
    """

    def __init__(self, app: App, *, names: frozenset[str], any_address: bool) -> None:
        self.app, self.names, self.any_address = app, names, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        fault = self._fault(scope)
        if fault is not None:
            await _refuse(send, *fault)
            return

        async def marked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY]
            await send(message)

        await self.app(scope, receive, marked)

    def _fault(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_ADDRESS:
            return 414, f"the address is longer than {LONGEST_ADDRESS} bytes"
        if sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADERS:
            return 431, f"the headers are larger than {LARGEST_HEADERS} bytes"
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return 400, "this server is not known by that name; open the address that selfalign serve printed"
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "nothing here can be changed; only GET is answered"
        return None

    def _ours(self, host: str) -> bool:
        if host in self.names:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]"))
        except ValueError:
            return False
        return True


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    kind = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *SECURITY]})
    await send({"type": "http.response.body", "body": body})
