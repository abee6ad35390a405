"""The port: what an engine does for us. `tests/search/test_engines.py` is the contract, for every engine alike.

A collection holds pictures: an id, V vectors of width D + C (the views, each with the shared block behind it), and
what is shown of them. The score of a picture is the largest inner product of its vectors with a query's.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from selfalign_cli.errors import DataError, RunError

Vectors = npt.NDArray[np.float32]

CANDIDATES = 64
"""Pictures beyond 4k that are scored again in full precision."""


@dataclass(frozen=True)
class Facts:
    """What a collection is.

    Attributes:
        views, width, context: V, D and C.
        model: hashes of the model, and where its checkpoint is, as `layout.ModelFacts` has them; None for foreign
            vectors.
        extractor: what made the regions; None where it is not known.
        pictures: folder of the picture files; empty where it is not known.
        ann: whether it is searched by a graph, which may miss some.
    """

    views: int
    width: int
    context: int
    model: dict[str, Any] | None = None
    extractor: dict[str, Any] | None = None
    pictures: str = ""
    ann: bool = False


@dataclass(frozen=True)
class Entry:
    """A picture to store.

    Attributes:
        id: its name; a picture of that name is replaced.
        vectors: (V, D + C) float32.
        digest: hexadecimal; changes when anything of the picture does.
        shown: `file_name`, `captions`: JSON.
    """

    id: str
    vectors: Vectors
    digest: str
    shown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """A picture that was found, with its exact score."""

    id: str
    score: float
    shown: dict[str, Any]


class Engine(Protocol):
    """A collection in an engine. What `add` and `delete` have returned from is not lost when the engine is killed."""

    address: str
    widest: int

    def create(self, facts: Facts) -> None:
        """Make the collection, empty; what is there under its name is removed."""

    def facts(self) -> Facts | None:
        """What the collection is; None where there is none."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Store pictures; those of the same ids are replaced. All of them, or, when it fails, any of them whole."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove pictures; ids that are not there are passed over."""

    def search(self, query: Vectors, k: int) -> list[Hit]:
        """The k best pictures for a query (Q, D + C): of a text one vector, of a picture its views."""

    def count(self) -> int:
        """Number of pictures."""

    def known(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield (id, digest) of the pictures that are there; of some ids, or of all."""

    def vectors(self, picture_id: str) -> Vectors | None:
        """(V, D + C) of a picture; None where it is not there."""

    def close(self) -> None:
        """End the connection."""


def open_engine(address: str) -> Engine:
    """Connect to an engine.

    Args:
        address: `milvus:FILE.db`, `milvus:http://HOST:PORT` or `postgresql://USER@HOST/DATABASE`, each with `#NAME`
            for a collection of another name than `selfalign`.

    Raises:
        DataError: no such engine, a faulty name, or its extra is not installed.
        RunError: nobody answers there.
    """
    place, _, name = address.partition("#")
    name = name or "selfalign"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        raise DataError(f"{address}: a collection is named by a to z, 0 to 9 and _; got {name!r}")
    if place.startswith(("postgresql://", "postgres://")):
        from selfalign_cli.search.engines.postgres import PostgresEngine

        return PostgresEngine(place, name)
    if place.startswith("milvus:"):
        from selfalign_cli.search.engines.milvus import MilvusEngine

        return MilvusEngine(place.removeprefix("milvus:"), name)
    raise DataError(
        f"{address} is no engine that is known",
        "milvus:FILE.db, milvus:http://HOST:PORT or postgresql://USER@HOST/DATABASE",
    )


def required(module: str, extra: str) -> Any:
    """A module of an extra.

    Raises:
        DataError: it is not installed; the command that installs it is named.
    """
    try:
        return importlib.import_module(module)
    except ImportError as fault:
        raise DataError(f"{module} is not installed", f"pip install 'selfalign[{extra}]'") from fault


def check_width(engine: str, width: int, limit: int) -> None:
    """Refuse vectors that an engine cannot hold."""
    if width > limit:
        raise DataError(
            f"vectors are {width:,} wide; {engine} holds {limit:,} numbers at most",
            "keep them in an index folder (--out INDEX), or train a narrower model (model.embed_dim)",
        )


def best_of(query: Vectors, candidates: Sequence[tuple[str, Vectors, dict[str, Any]]], k: int) -> list[Hit]:
    """The k best candidates by exact scores: summed in float64, rounded to float32; equal ones by id."""
    hits = [
        Hit(name, float(np.float32((vectors.astype(np.float64) @ query.astype(np.float64).T).max())), shown)
        for name, vectors, shown in candidates
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]


def unreachable(address: str, fault: Exception) -> RunError:
    """The error for an engine that does not answer, or went away."""
    reason = str(fault).strip().splitlines()
    return RunError(f"{address}: {reason[0] if reason else type(fault).__name__}", "is it running, and reachable?")
