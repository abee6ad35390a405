"""Listen, say where, answer until stopped."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from selfalign_cli.errors import DataError, RunError, SelfAlignError
from selfalign_cli.search.queries import is_engine_address
from selfalign_cli.search.running import announced
from selfalign_cli.serve.answers import ServedIndex
from selfalign_cli.serve.app import Collection, make_app
from selfalign_cli.serve.engine import ServedEngine
from selfalign_cli.serve.opened import Served
from selfalign_cli.serve.protocol import bounded

BACKLOG = 128
LARGEST_REQUEST = 16384
"""Bytes of a request line and its headers, while they come in."""


@dataclass(frozen=True)
class Place:
    """Where to listen.

    Attributes:
        host: an IP address of this machine, or `localhost`.
        port: 0 for a free one.
        public: others than this machine may reach it.
        names: by which they know it, beside its IP addresses.
    """

    host: str = "127.0.0.1"
    port: int = 8088
    public: bool = False
    names: tuple[str, ...] = ()


def serve(
    index: str,
    place: Place,
    *,
    model: Path | None = None,
    pictures: Sequence[Path] = (),
    device: str = "auto",
    ready: Callable[[str], None],
    notify: Callable[[str], None],
) -> None:
    """Serve an index until the process is stopped; see `make_server`."""
    server, listening = make_server(
        index, place, model=model, pictures=pictures, device=device, ready=ready, notify=notify
    )
    with listening:
        server.run(sockets=[listening])


def make_server(
    index: str,
    place: Place,
    *,
    model: Path | None = None,
    pictures: Sequence[Path] = (),
    device: str = "auto",
    ready: Callable[[str], None],
    notify: Callable[[str], None],
) -> tuple[Server, socket.socket]:
    """A server that is ready to run, with its model loaded, and the socket that it will listen on.

    Args:
        index: folder of an index, or address of an engine.
        place: where to listen.
        model: with an engine, where its checkpoint is now.
        pictures: folders of the pictures, if the index does not lead to them.
        device: where texts are encoded.
        ready: called with the address once it answers.
        notify: shows messages.

    Raises:
        DataError: no index, or an address that others reach without `public`.
        RunError: the port is taken.
    """
    _expect_loopback(place)
    folder, collection = _open(index, model, pictures, device, notify)
    listening = _listen(place)
    port, shown = listening.getsockname()[1], _shown(place.host)
    names = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]", shown, *place.names)}
    names |= {name for name in place.names if port == 80}
    app = make_app(collection, names=frozenset(name.lower() for name in names), any_address=place.public)
    config = uvicorn.Config(
        app,
        http=bounded(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=LARGEST_REQUEST,
        backlog=BACKLOG,
    )
    return Server(config, folder, f"http://{shown}:{port}", ready), listening


class Server(uvicorn.Server):
    """Says where it is once it answers, and takes that back before it ends.

    Args:
        config: of uvicorn.
        served: the index folder, in which `selfalign search` looks for a server; None for an engine.
        address: of the page.
        ready: called with the address.
    """

    def __init__(
        self, config: uvicorn.Config, served: Served | None, address: str, ready: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self.served, self.address, self.ready = served, address, ready
        self._said = ExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.served is not None:
            self._announce(self.served)
            self.served.changed = partial(self._announce, self.served)
        self.ready(self.address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; a signal ends the process right after."""
        if self.served is not None:
            self.served.changed = None
        self._said.close()
        await super().shutdown(sockets)

    def _announce(self, served: Served) -> None:
        """Tell `selfalign search` where this state of the index can be asked."""
        with suppress(SelfAlignError):  # a folder that cannot be written to is still served
            self._said.close()
            self._said.enter_context(announced(served.folder, self.address, served.identity))


def _open(
    index: str, model: Path | None, pictures: Sequence[Path], device: str, notify: Callable[[str], None]
) -> tuple[Served | None, Collection]:
    if is_engine_address(index):
        return None, ServedEngine(index, model=model, pictures=pictures, device=device)
    if model is not None:
        raise DataError("--model is for engines: an index folder holds its model", "leave it out")
    served = Served(Path(index), pictures=pictures, device=device, notify=notify)
    served.warm()
    return served, ServedIndex(served)


def _expect_loopback(place: Place) -> None:
    try:
        own = place.host == "localhost" or ipaddress.ip_address(place.host).is_loopback
    except ValueError as fault:
        raise DataError(f"--host {place.host}: expected an IP address of this machine", "127.0.0.1") from fault
    if not own and not place.public:
        raise DataError(
            f"--host {place.host} lets others reach the index and its pictures, and there is no password",
            "add --yes-public if that is meant",
        )


def _shown(host: str) -> str:
    """A host as an address has it: one that a browser on this machine can open."""
    if host in ("0.0.0.0", "localhost"):
        return "127.0.0.1"
    return f"[{'::1' if host == '::' else host}]" if ":" in host else host


def _listen(place: Place) -> socket.socket:
    host = "127.0.0.1" if place.host == "localhost" else place.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, place.port))
    except OSError as fault:
        listening.close()
        raise RunError(
            f"cannot listen on {host}, port {place.port}: {fault.strerror}",
            "choose another --port; 0 takes a free one",
        ) from fault
    return listening
