"""A real `selfalign serve` in a process of its own, and clients that do what browsers do not."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.processes import Command, Done, Forks, until

PATIENCE = 30


@dataclass
class Server:
    """A server that answers."""

    command: Command
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Ask with the path exactly as given."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def api(self, question: str, **parameters: Any) -> dict[str, Any]:
        """The document of an answer."""
        _, body, _ = self.get(f"/api/{question}?{urlencode(parameters)}")
        return dict(json.loads(body))

    def raw(self, text: bytes) -> bytes:
        """Send bytes; what comes back until the server closes."""
        with self.connect() as client:
            client.sendall(text)
            return until_closed(client)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE)

    def said(self) -> str:
        return self.command.err.read_text()

    def stop(self, which: signal.Signals = signal.SIGTERM) -> Done:
        self.command.send(which)
        return self.command.wait()


def until_closed(client: socket.socket) -> bytes:
    """All that comes until the other side closes, or cuts the line."""
    parts = []
    try:
        while part := client.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def start_server(forks: Forks, index: Path, *more: object, before: str = "") -> Server:
    """Start a server on a free port, and wait for the address that it prints."""
    command = forks.start("serve", index, "--port", 0, "--device", "cpu", *more, cwd=index.parent, before=before)
    until(lambda: command.out.exists() and command.out.read_text().endswith("\n") or _ended(command))
    host, _, port = command.out.read_text().strip().removeprefix("http://").rpartition(":")
    return Server(command, host, int(port))


def _ended(command: Command) -> bool:
    assert not command.err.exists() or "error: " not in command.err.read_text(), command.err.read_text()
    return False
