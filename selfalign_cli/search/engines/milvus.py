"""Milvus: a file by milvus-lite, a server, or a cluster, by the same client."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from selfalign_cli.errors import DataError
from selfalign_cli.search.engines.port import (
    CANDIDATES,
    Entry,
    Facts,
    Hit,
    Vectors,
    best_of,
    check_width,
    required,
    unreachable,
)

WIDEST = 32_768
REQUEST_BYTES = 32 << 20
"""Milvus takes requests of 64 MB."""
LONGEST_ID, LONGEST_SHOWN = 512, 60_000
LARGEST_LIMIT = 16_384
STRONG = "Strong"


class MilvusEngine:
    """A collection in Milvus.

    Args:
        place: `FILE.db`, or `http://HOST:PORT`.
        name: of the collection.
    """

    widest = WIDEST

    def __init__(self, place: str, name: str) -> None:
        self.address = f"milvus:{place}#{name}"
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # its handlers print a line at every fork
        self._milvus = required("pymilvus", "milvus")
        if "://" not in place:
            required("milvus_lite", "milvus")
            if not place.endswith(".db"):
                raise DataError(f"{self.address}: expected a file named *.db, or http://HOST:PORT")
        self._name, self._facts = name, f"{name}_facts"
        try:
            self._client = self._milvus.MilvusClient(place, timeout=20)
            for known in (self._name, self._facts):
                if self._client.has_collection(known):
                    self._client.load_collection(known)  # a server that was started again has not
        except Exception as fault:  # of its own, of grpc's and of milvus-lite's kinds
            raise unreachable(self.address, fault) from fault

    def create(self, facts: Facts) -> None:
        """Make the collection, and a second one for the facts: milvus-lite keeps no descriptions."""
        width = facts.width + facts.context
        check_width("Milvus", width, WIDEST)
        text = self._milvus.DataType.VARCHAR
        with self._asking():
            for name in (self._name, self._facts):
                if self._client.has_collection(name):
                    self._client.drop_collection(name)
            schema = self._client.create_schema()
            schema.add_field("key", text, is_primary=True, max_length=64)
            schema.add_field("picture", text, max_length=LONGEST_ID)
            schema.add_field("view", self._milvus.DataType.INT64)
            schema.add_field("digest", text, max_length=64)
            schema.add_field("shown", text, max_length=65_535)
            self._make(self._name, schema, width, graph=facts.ann)
            schema = self._client.create_schema()
            schema.add_field("key", text, is_primary=True, max_length=8)
            schema.add_field("facts", text, max_length=65_535)
            self._make(self._facts, schema, 2, graph=False)
            self._client.insert(
                self._facts, [{"key": "facts", "facts": json.dumps(asdict(facts)), "vector": [0.0, 1.0]}]
            )

    def _make(self, name: str, schema: Any, width: int, *, graph: bool) -> None:
        schema.add_field("vector", self._milvus.DataType.FLOAT_VECTOR, dim=width)
        index = self._client.prepare_index_params()
        kind = {"index_type": "HNSW", "params": {"M": 32, "efConstruction": 200}} if graph else {"index_type": "FLAT"}
        index.add_index("vector", metric_type="IP", **kind)
        self._client.create_collection(name, schema=schema, index_params=index, consistency_level=STRONG)

    def facts(self) -> Facts | None:
        """Read the facts."""
        with self._asking():
            if not (self._client.has_collection(self._name) and self._client.has_collection(self._facts)):
                return None
            found = self._client.query(
                self._facts, filter='key == "facts"', output_fields=["facts"], consistency_level=STRONG
            )
        return Facts(**json.loads(found[0]["facts"])) if found else None

    def add(self, entries: Sequence[Entry]) -> None:
        """Upsert, in requests that Milvus takes."""
        rows: list[dict[str, Any]] = []
        size = 0
        for entry in entries:
            shown = json.dumps(entry.shown)
            if len(entry.id.encode()) > LONGEST_ID or len(shown.encode()) > LONGEST_SHOWN:
                raise DataError(
                    f"the picture {entry.id[:80]!r} has an id above {LONGEST_ID} or captions above {LONGEST_SHOWN} "
                    "bytes, which is more than Milvus stores"
                )
            # pymilvus pages by key, and pastes keys into its expressions as they are.
            hashed = hashlib.sha256(entry.id.encode("utf-8", "surrogatepass")).hexdigest()[:40]
            for view, vector in enumerate(entry.vectors):
                rows.append(
                    {
                        "key": f"{hashed}-{view}",
                        "picture": entry.id,
                        "view": view,
                        "digest": entry.digest,
                        "shown": shown if view == 0 else "",
                        "vector": vector,
                    }
                )
            size += entry.vectors.nbytes + len(shown)
            if size > REQUEST_BYTES:
                self._upsert(rows)
                rows, size = [], 0
        if rows:
            self._upsert(rows)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete by id."""
        with self._asking():
            for start in range(0, len(ids), 1000):
                self._client.delete(self._name, filter=f"picture in {_listed(ids[start : start + 1000])}")

    def search(self, query: Vectors, k: int) -> list[Hit]:
        """Let Milvus choose candidates; score them here."""
        facts = self.facts()
        if facts is None:
            raise DataError(f"{self.address} holds no collection", "make one: selfalign index … --to ADDRESS")
        # Rows, of which V may be of one picture: with V times as many, none of the wanted pictures is missed.
        limit = min(LARGEST_LIMIT, (4 * k + CANDIDATES) * facts.views)
        with self._asking():
            found = self._client.search(
                self._name,
                data=list(query),
                limit=limit,
                anns_field="vector",
                search_params={"metric_type": "IP", "params": {"ef": limit} if facts.ann else {}},
                output_fields=["picture"],
                consistency_level=STRONG,
            )
            ids = sorted({hit["entity"]["picture"] for hits in found for hit in hits})
            rows = self._query(ids, ["picture", "view", "shown", "vector"])
        pictures: dict[str, dict[int, Any]] = {}
        shown: dict[str, str] = {}
        for row in rows:
            pictures.setdefault(row["picture"], {})[row["view"]] = np.asarray(row["vector"], np.float32)
            if row["view"] == 0:
                shown[row["picture"]] = row["shown"]
        whole = [
            (name, np.stack([views[view] for view in sorted(views)]), json.loads(shown.get(name) or "{}"))
            for name, views in pictures.items()
        ]
        return best_of(query, whole, k)

    def count(self) -> int:
        """Count the first views."""
        with self._asking():
            found = self._client.query(
                self._name, filter="view == 0", output_fields=["count(*)"], consistency_level=STRONG
            )
            return int(found[0]["count(*)"])

    def known(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield ids and digests."""
        if ids is not None:
            with self._asking():
                rows = self._query(ids, ["picture", "view", "digest"])
            yield from ((row["picture"], row["digest"]) for row in rows if row["view"] == 0)
            return
        with self._asking():
            pages = self._client.query_iterator(
                self._name,
                filter="view == 0",
                output_fields=["picture", "digest"],
                batch_size=1000,
                consistency_level=STRONG,
            )
            while page := pages.next():
                yield from ((row["picture"], row["digest"]) for row in page)
            pages.close()

    def vectors(self, picture_id: str) -> Vectors | None:
        """Read the views of a picture."""
        with self._asking():
            rows = self._query([picture_id], ["view", "vector"])
        views = {row["view"]: np.asarray(row["vector"], np.float32) for row in rows}
        return np.stack([views[view] for view in sorted(views)]) if views else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _upsert(self, rows: list[dict[str, Any]]) -> None:
        with self._asking():
            self._client.upsert(self._name, rows)

    def _query(self, ids: Sequence[str], fields: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for start in range(0, len(ids), 200):
            wanted = f"picture in {_listed(ids[start : start + 200])}"
            rows += self._client.query(self._name, filter=wanted, output_fields=fields, consistency_level=STRONG)
        return rows

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except self._milvus.MilvusException as fault:
            if "not found" in str(fault) and "collection" in str(fault).lower():
                hint = "make one: selfalign index … --to ADDRESS"
                raise DataError(f"{self.address} holds no collection", hint) from fault
            raise unreachable(self.address, fault) from fault


def _listed(ids: Sequence[str]) -> str:
    """Ids as a list of Milvus's expressions, quoted."""
    return json.dumps(list(ids), ensure_ascii=False)
