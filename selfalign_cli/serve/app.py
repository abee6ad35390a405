"""The web application: a page in three files, pictures by row, and the API. Nothing changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selfalign_cli.errors import DataError, SelfAlignError
from selfalign_cli.extract.pictures import UnreadableError
from selfalign_cli.pages.render import FOLDER as TEMPLATES
from selfalign_cli.serve import answers
from selfalign_cli.serve.guard import Guard
from selfalign_cli.serve.thumbnails import SIDES, Thumbnails

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": (STATIC / "index.html", "text/html; charset=utf-8"),
    "/app.css": (STATIC / "app.css", "text/css; charset=utf-8"),
    "/app.js": (STATIC / "app.js", "text/javascript; charset=utf-8"),
    "/icon.svg": (STATIC / "icon.svg", "image/svg+xml"),
    "/dom.js": (STATIC / "dom.js", "text/javascript; charset=utf-8"),
    "/explain.js": (STATIC / "explain.js", "text/javascript; charset=utf-8"),
    "/base.css": (TEMPLATES / "base.css", "text/css; charset=utf-8"),
    "/regions.css": (TEMPLATES / "regions.css", "text/css; charset=utf-8"),
}
MOST_WAITING = 64
"""Questions that wait for the model; further ones are told to come again."""


class Collection(Protocol):
    """What is served: an index folder, or a collection of an engine."""

    def ask(self, question: str, asked: answers.Parameters) -> answers.Document:
        """Answer `about`, `search`, `picture` or `explain`."""

    def picture_path(self, row: int) -> Path | None:
        """The file of a picture, or None."""


def make_app(served: Collection, *, names: frozenset[str], any_address: bool = False) -> Guard:
    """The application.

    Args:
        served: the collection.
        names: hosts, as browsers name them, that it answers as: `127.0.0.1:8000`.
        any_address: also answer as any IP address, for a server that others reach.
    """
    thumbnails, turns = Thumbnails(), Turns()
    routes = [Route(path, partial(_file, file, kind), methods=["GET"]) for path, (file, kind) in FILES.items()]
    routes += [
        Route(f"/api/{name}", partial(_answer, served, turns, name), methods=["GET"]) for name in answers.QUESTIONS
    ]
    routes.append(Route("/picture/{row:int}/{size:str}", partial(_picture, served, thumbnails), methods=["GET"]))
    return Guard(Starlette(routes=routes), names=names, any_address=any_address)


class Turns:
    """One question at a time uses the model, which uses all cores; few wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self._turn = asyncio.Lock()

    async def take(self, work: Callable[[], Any]) -> Any:
        """Run some work in a thread when it is its turn.

        Raises:
            BusyError: too many wait already.
        """
        if self.waiting >= MOST_WAITING:
            raise BusyError
        self.waiting += 1
        try:
            async with self._turn:
                return await run_in_threadpool(work)
        finally:
            self.waiting -= 1


class BusyError(Exception):
    """Too many questions at once."""


async def _file(path: Path, kind: str, request: Request) -> Response:
    content = await run_in_threadpool(path.read_bytes)
    return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})


async def _answer(served: Collection, turns: Turns, question: str, request: Request) -> Response:
    asked = dict(request.query_params)
    try:
        document = await turns.take(lambda: served.ask(question, asked))
    except SelfAlignError as fault:
        status = 400 if isinstance(fault, DataError) else 500
        return _refusal(status, fault.message, fault.hint)
    except BusyError:
        return _refusal(503, "too many questions at once", "ask again in a moment")
    return JSONResponse(document, headers={"cache-control": "no-store"})


async def _picture(served: Collection, thumbnails: Thumbnails, request: Request) -> Response:
    size = request.path_params["size"]
    if size not in SIDES:
        return _refusal(404, "there is no such size", f"one of {', '.join(SIDES)}")
    try:
        path = await run_in_threadpool(lambda: served.picture_path(request.path_params["row"]))
        if path is None:
            return _refusal(404, "the picture is not there", None)
        packed = await run_in_threadpool(thumbnails.get, path, size)
    except DataError as fault:
        return _refusal(404, fault.message, fault.hint)
    except UnreadableError as fault:
        return _refusal(404, f"the picture cannot be shown: {fault}", None)
    headers = {"content-type": packed.kind, "cache-control": "private, max-age=3600"}
    return Response(packed.content, headers=headers)


def _refusal(status: int, message: str, hint: str | None) -> Response:
    document = {"error": message} if hint is None else {"error": message, "hint": hint}
    return JSONResponse(document, status, headers={"cache-control": "no-store"})
