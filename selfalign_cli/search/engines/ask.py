"""Questions to a collection of an engine, answered in the JSON form of `search.answer`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.errors import DataError
from selfalign_cli.search.engines.port import Engine, Facts, Hit, open_engine
from selfalign_cli.search.queries import check_query

Document = dict[str, Any]


def answer_engine(
    address: str, texts: Sequence[str], image: str | None, k: int, *, model: Path | None = None, device: str = "auto"
) -> Document:
    """Find pictures for texts, or pictures like one of the collection.

    Args:
        address: see `open_engine`.
        texts: the queries, or none for a picture.
        image: id of a picture, or None.
        k: how many.
        model: the checkpoint; None for where it was when the collection was made.
        device: where texts are encoded.

    Raises:
        DataError: there is no such collection or picture; the checkpoint is not the one that encoded it.
        RunError: the engine does not answer.
    """
    engine = open_engine(address)
    try:
        facts = engine.facts()
        if facts is None:
            raise DataError(
                f"{engine.address} holds no collection", f"selfalign index CKPT --data F.h5 --to {address}"
            )
        if image is not None:
            queries = [_like(engine, image, k)]
        else:
            queries = _of_texts(engine, retriever_of(facts, engine.address, model, device), texts, k)
    finally:
        engine.close()
    return {"index": engine.address, "exact": not facts.ann, "queries": queries}


def retriever_of(facts: Facts, address: str, model: Path | None, device: str) -> Retriever:
    """The model that encoded a collection.

    Raises:
        DataError: foreign vectors; the checkpoint is gone, or another one.
    """
    if facts.model is None:
        raise DataError(f"{address} holds vectors of another program, and no model to read a text with", "use --image")
    path = model or Path(facts.model["source"])
    if not path.exists():
        raise DataError(f"{path}, which encoded {address}, is not here", "name a copy of it: --model CKPT")
    retriever = Retriever.load(path, device=device)
    if retriever.identity.weights != facts.model["weights"]:
        raise DataError(f"{path} is not the model that encoded {address}", "name that one: --model CKPT")
    return retriever


def _of_texts(engine: Engine, retriever: Retriever, texts: Sequence[str], k: int) -> list[Document]:
    for text in texts:
        check_query(text)
    vectors = retriever.encode_texts(texts).concatenated().numpy()
    return [
        {
            "query": text,
            "unknown_words": retriever.unknown_words(text),
            "hits": _shown(engine.search(vector[np.newaxis], k)),
        }
        for text, vector in zip(texts, vectors, strict=True)
    ]


def _like(engine: Engine, image: str, k: int) -> Document:
    vectors = engine.vectors(image)
    if vectors is None:
        raise DataError(f"{engine.address} has no picture {image!r}")
    hits = [hit for hit in engine.search(vectors, k + 1) if hit.id != image][:k]
    return {"query": None, "image": image, "unknown_words": [], "hits": _shown(hits), "captions": []}


def _shown(hits: Sequence[Hit]) -> list[Document]:
    return [
        {
            "id": hit.id,
            "score": hit.score,
            "file_name": hit.shown.get("file_name"),
            "captions": hit.shown.get("captions", []),
        }
        for hit in hits
    ]
