"""A running `selfalign serve` of an index: it says where it is in INDEX/serve.json, and `search` asks it.

serve.json is `{"address": "http://127.0.0.1:8000", "pid": …, "identity": …}`; `identity` is that of the index it has
open, so a server of an older state is not asked. It answers `GET /api/search` with `q=TEXT`, or `image=ID`, and `k=N`
by one query of the JSON form in `answer`: `{"query" or "image", "unknown_words", "hits", "captions" for a picture,
"identity"}`. Anything else, a refusal too, makes `search` load the model itself, which then says what is wrong.
"""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selfalign_cli.data.atomic import replacing
from selfalign_cli.search.layout import read_manifest

FILE = "serve.json"
SECONDS = 10.0
"""How long an answer may take."""
LARGEST_ANSWER = 64 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@contextmanager
def announced(folder: Path, address: str, identity: str) -> Iterator[None]:
    """Say that a server of an index answers at an address, as long as the block runs."""
    path = folder / FILE
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"address": address, "pid": os.getpid(), "identity": identity}) + "\n")
    try:
        yield
    finally:
        with suppress(OSError, ValueError, LookupError, TypeError):
            if json.loads(path.read_bytes())["pid"] == os.getpid():  # not that of a server started later
                path.unlink()


def running_address(folder: Path) -> str | None:
    """Where a server of an index answers; None without one, or if it has another state open.

    Raises:
        DataError: the folder is no index.
    """
    identity = read_manifest(folder).identity
    try:
        found = json.loads((folder / FILE).read_bytes())
        address, pid = str(found["address"]), int(found["pid"])
        if found["identity"] != identity or urllib.parse.urlsplit(address).hostname not in LOOPBACK:
            return None
        os.kill(pid, 0)
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None
    return address


def asked(folder: Path, texts: Sequence[str], image: str | None, k: int) -> dict[str, Any] | None:
    """The answer of a running server, in the form of `answer`; None if there is none or it does not answer it.

    Args:
        folder: the index.
        texts: the queries, or none for a picture.
        image: id of a picture, or None.
        k: how many.
    """
    address = running_address(folder)
    if address is None:
        return None
    wanted = [{"q": text} for text in texts] if image is None else [{"image": image}]
    answers = []
    for query in wanted:
        found = _get(f"{address}/api/search?{urllib.parse.urlencode({**query, 'k': k})}")
        if found is None:
            return None
        name = {"query": query["q"]} if image is None else {"query": None, "image": image}
        captions = {} if image is None else {"captions": found.get("captions", [])}
        answers.append({**name, "unknown_words": found["unknown_words"], "hits": found["hits"], **captions})
    return {"index": str(folder), "exact": True, "queries": answers}


def _get(url: str) -> dict[str, Any] | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback goes through no proxy
    try:
        with opener.open(url, timeout=SECONDS) as response:
            found = json.loads(response.read(LARGEST_ANSWER))
        hits = found["hits"]
        whole = all({"id", "score", "captions"} <= set(hit) for hit in hits) and "unknown_words" in found
        return found if whole else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
