"""A collection in an engine, served as an index is: searched, with pictures and captions; without explanations.

An engine knows pictures by id. The page asks by row, so that no name is ever part of an address: rows are given to
pictures as they are found.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.picture_files import PictureFiles
from selfalign_cli.errors import DataError, RunError
from selfalign_cli.search.engines.ask import retriever_of
from selfalign_cli.search.engines.port import Engine, Facts, Hit, open_engine
from selfalign_cli.search.index import picture_file
from selfalign_cli.serve.answers import LONGEST_QUERY, MOST_HITS, Document, Parameters, asked_text, number, row_asked

MOST_KNOWN = 200_000
"""Pictures whose rows are remembered; those that were found first are forgotten first."""


class ServedEngine:
    """A collection of an engine, connected to again after the engine was away.

    Args:
        address: see `open_engine`.
        model: the checkpoint; None for where it was when the collection was made.
        pictures: folders of pictures that the user names.
        device: where texts are encoded.

    Raises:
        DataError: there is no such collection, or its model is gone.
        RunError: the engine does not answer.
    """

    def __init__(self, address: str, *, model: Path | None, pictures: Sequence[Path], device: str) -> None:
        self.address = address
        self.folders = PictureFiles(tuple(folder.resolve() for folder in pictures), {})
        self.identity = hashlib.sha256(address.encode()).hexdigest()[:16]
        self._engine: Engine | None = None
        self._rows: dict[str, int] = {}
        self._known: OrderedDict[int, Hit] = OrderedDict()
        self._next = 0
        facts = self._connected().facts()
        if facts is None:
            raise DataError(f"{address} holds no collection", f"selfalign index CKPT --data F.h5 --to {address}")
        self.facts: Facts = facts
        self.retriever: Retriever | None = None
        if facts.model is not None:
            self.retriever = retriever_of(facts, address, model, device)
            self.retriever.encode_texts(["warm"])

    def ask(self, question: str, asked: Parameters) -> Document:
        """Answer a question of the API.

        Raises:
            DataError: a wrong question, or one that an engine cannot answer.
            RunError: the engine does not answer; it is connected to again for the next question.
        """
        answers: dict[str, Callable[[Parameters], Document]] = {
            "about": self._about,
            "search": self._search,
            "picture": self._picture,
            "explain": self._explain,
        }
        try:
            return answers[question](asked)
        except RunError:
            self._engine = None
            raise

    def picture_path(self, row: int) -> Path | None:
        """The file of a picture that was found, or None."""
        hit = self._hit(row)
        name = hit.shown.get("file_name")
        return self.folders.find(hit.id, name) or picture_file(self.facts.pictures, name or hit.id)

    def _about(self, asked: Parameters) -> Document:
        return {
            "index": self.address,
            "identity": self.identity,
            "pictures": self._connected().count(),
            "captions": 0,
            "model": self.retriever is not None,
            "longest_query": LONGEST_QUERY,
        }

    def _search(self, asked: Parameters) -> Document:
        began = time.perf_counter()
        k, first = number(asked, "k", 10, 1, 200), number(asked, "from", 0, 0, MOST_HITS)
        depth = min(first + k, MOST_HITS)
        if ("q" in asked) == ("image" in asked):
            raise DataError("expected one of q=TEXT and image=ID")
        query = self._of_text(asked_text(asked["q"]), depth) if "q" in asked else self._like(asked["image"], depth)
        query["hits"] = query["hits"][first:]
        return {
            "index": self.address,
            "exact": not self.facts.ann,
            "queries": [query],
            **query,
            "identity": self.identity,
            "from": first,
            "of": min(self._connected().count(), MOST_HITS),
            "unrelated": None,
            "milliseconds": round(1000 * (time.perf_counter() - began), 1),
        }

    def _of_text(self, text: str, depth: int) -> Document:
        if self.retriever is None:
            raise DataError(f"{self.address} holds vectors of another program, and no model to read a text with")
        vector = self.retriever.encode_texts([text]).concatenated().numpy()
        hits = self._connected().search(vector, depth)
        return {"query": text, "unknown_words": self.retriever.unknown_words(text), "hits": self._shown(hits)}

    def _like(self, image: str, depth: int) -> Document:
        vectors = self._connected().vectors(image)
        if vectors is None:
            raise DataError(f"{self.address} has no picture {image!r}")
        hits = [hit for hit in self._connected().search(np.asarray(vectors), depth + 1) if hit.id != image][:depth]
        return {"query": None, "image": image, "unknown_words": [], "hits": self._shown(hits), "captions": []}

    def _picture(self, asked: Parameters) -> Document:
        row = row_asked(asked)
        hit = self._hit(row)
        return {
            "row": row,
            "id": hit.id,
            "file_name": hit.shown.get("file_name"),
            "size": None,
            "boxes": None,
            "captions": list(hit.shown.get("captions", [])),
            "found_captions": [],
            "shown": self.picture_path(row) is not None,
            "identity": self.identity,
        }

    def _explain(self, asked: Parameters) -> Document:
        raise DataError(
            "an engine holds vectors only, so scores are not explained", "selfalign explain, or serve an index folder"
        )

    def _shown(self, hits: Sequence[Hit]) -> list[dict[str, Any]]:
        return [
            {
                "id": hit.id,
                "row": self._row_of(hit),
                "score": hit.score,
                "file_name": hit.shown.get("file_name"),
                "captions": list(hit.shown.get("captions", [])),
            }
            for hit in hits
        ]

    def _row_of(self, hit: Hit) -> int:
        row = self._rows.get(hit.id)
        if row is None:
            row = self._rows[hit.id] = self._next
            self._next += 1
        self._known[row] = hit
        self._known.move_to_end(row)
        while len(self._known) > MOST_KNOWN:
            _, forgotten = self._known.popitem(last=False)
            self._rows.pop(forgotten.id, None)
        return row

    def _hit(self, row: int) -> Hit:
        hit = self._known.get(row)
        if hit is None:
            raise DataError(f"no picture was found in row {row} since the server began", "search again")
        return hit

    def _connected(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self.address)
        return self._engine
