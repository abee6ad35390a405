"""PostgreSQL with pgvector: a table of vectors, one row a view; exact by default, HNSW where it was asked for."""

from __future__ import annotations

import json
import re
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

WIDEST = 16_000
"""Numbers of a `vector` that pgvector stores."""
GRAPH_FULL, GRAPH_HALF = 2_000, 4_000
"""Widest `vector` and `halfvec` with an HNSW index; above, the graph is over signs (64,000 bits)."""
EF_SEARCH = 200


class PostgresEngine:
    """A collection in PostgreSQL.

    Args:
        url: `postgresql://…`, as libpq reads it.
        name: of the collection.
    """

    widest = WIDEST

    def __init__(self, url: str, name: str) -> None:
        self.address = re.sub(r":[^:@/]*@", "@", url) + f"#{name}"  # no password in messages
        self._psycopg = required("psycopg", "pgvector")
        self._pgvector = required("pgvector.psycopg", "pgvector")
        self._table, self._known = f"selfalign_{name}", f"selfalign_{name}_facts"
        try:
            self._connection = self._psycopg.connect(url, autocommit=True, connect_timeout=10)
            self._extend()
        except self._psycopg.Error as fault:
            raise unreachable(self.address, fault) from fault

    def create(self, facts: Facts) -> None:
        """Make the tables and, with `ann`, the graph."""
        width = facts.width + facts.context
        check_width("pgvector", width, WIDEST)
        with self._asking() as cursor, self._connection.transaction():
            cursor.execute(f"drop table if exists {self._table}, {self._known}")
            cursor.execute(f"create table {self._known} (facts text not null)")
            cursor.execute(f"insert into {self._known} values (%s)", [json.dumps(asdict(facts))])
            cursor.execute(
                f"create table {self._table} (id text not null, view int not null, digest text not null, "
                f"shown text, vector vector({width}) not null, primary key (id, view))"
            )
            cursor.execute(f"alter table {self._table} alter column vector set storage external")
            if facts.ann:
                cursor.execute(f"create index on {self._table} using hnsw ({_graph(width)[1]})")

    def facts(self) -> Facts | None:
        """Read the facts."""
        with self._asking() as cursor:
            if cursor.execute("select to_regclass(%s)", [self._known]).fetchone()[0] is None:
                return None
            row = cursor.execute(f"select facts from {self._known}").fetchone()
            return None if row is None else Facts(**json.loads(row[0]))

    def add(self, entries: Sequence[Entry]) -> None:
        """Replace in one transaction, in the order of ids, so that writers wait for each other and never lock up."""
        with self._asking() as cursor, self._connection.transaction():
            rows = [
                (entry.id, view, entry.digest, json.dumps(entry.shown) if view == 0 else None, vector)
                for entry in sorted(entries, key=lambda entry: entry.id)
                for view, vector in enumerate(entry.vectors)
            ]
            for row in rows:
                for text in (row[0], row[3] or ""):
                    if "\0" in text:
                        raise DataError(
                            f"the picture {row[0]!r} holds a NUL character, which PostgreSQL does not store"
                        )
            cursor.executemany(
                f"insert into {self._table} values (%s, %s, %s, %s, %s) on conflict (id, view) do update set "
                "digest = excluded.digest, shown = excluded.shown, vector = excluded.vector",
                rows,
            )

    def delete(self, ids: Sequence[str]) -> None:
        """Remove in one transaction."""
        with self._asking() as cursor:
            cursor.execute(f"delete from {self._table} where id = any(%s)", [sorted(ids)])

    def search(self, query: Vectors, k: int) -> list[Hit]:
        """Let PostgreSQL choose candidates; score them here."""
        facts = self.facts()
        if facts is None:
            raise DataError(f"{self.address} holds no collection", "make one: selfalign index … --to ADDRESS")
        wanted = 4 * k + CANDIDATES
        with self._asking() as cursor, self._connection.transaction():
            ids: set[str] = set()
            for vector in query:
                ids |= self._candidates(cursor, vector, wanted, facts)
            found = cursor.execute(
                f"select id, shown, vector from {self._table} where id = any(%s) order by id, view", [sorted(ids)]
            ).fetchall()
        pictures: dict[str, tuple[list[Vectors], str | None]] = {}
        for name, shown, vector in found:
            views, known = pictures.get(name, ([], None))
            pictures[name] = ([*views, vector.to_numpy()], known or shown)
        return best_of(
            query, [(name, np.stack(views), json.loads(shown or "{}")) for name, (views, shown) in pictures.items()], k
        )

    def count(self) -> int:
        """Count the first views."""
        with self._asking() as cursor:
            return int(cursor.execute(f"select count(*) from {self._table} where view = 0").fetchone()[0])

    def known(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield ids and digests."""
        with self._asking() as cursor:
            some = "" if ids is None else " and id = any(%s)"
            asked = [] if ids is None else [list(ids)]
            yield from cursor.execute(f"select id, digest from {self._table} where view = 0{some}", asked).fetchall()

    def vectors(self, picture_id: str) -> Vectors | None:
        """Read the views of a picture."""
        with self._asking() as cursor:
            rows = cursor.execute(
                f"select vector from {self._table} where id = %s order by view", [picture_id]
            ).fetchall()
        return np.stack([row[0].to_numpy() for row in rows]) if rows else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _candidates(self, cursor: Any, vector: Vectors, wanted: int, facts: Facts) -> set[str]:
        """Ids of the best pictures for one vector."""
        if not facts.ann:
            cursor.execute("set local enable_indexscan = off")
            rows = cursor.execute(
                f"select id from {self._table} group by id order by min(vector <#> %s) limit %s", [vector, wanted]
            )
            return {row[0] for row in rows.fetchall()}
        # A graph gives rows, and V of them may be of one picture.
        rows_wanted = wanted * facts.views
        cursor.execute(f"set local hnsw.ef_search = {min(1000, max(EF_SEARCH, rows_wanted))}")
        cursor.execute("set local enable_seqscan = off")
        cursor.execute("set local hnsw.iterative_scan = strict_order")
        ordered = _graph(facts.width + facts.context)[0]
        rows = cursor.execute(f"select id from {self._table} order by {ordered} limit %s", [vector, rows_wanted])
        return {row[0] for row in rows.fetchall()}

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            with self._connection.cursor() as cursor:
                yield cursor
        except self._psycopg.errors.UndefinedTable as fault:
            raise DataError(
                f"{self.address} holds no collection", "make one: selfalign index … --to ADDRESS"
            ) from fault
        except self._psycopg.Error as fault:
            raise unreachable(self.address, fault) from fault

    def _extend(self) -> None:
        try:
            self._connection.execute("create extension if not exists vector")
        except self._psycopg.errors.UniqueViolation:  # two did it at once
            pass
        except self._psycopg.errors.FeatureNotSupported as fault:
            raise DataError(
                f"{self.address}: PostgreSQL without pgvector", "install pgvector on the server"
            ) from fault
        self._pgvector.register_vector(self._connection)


def _graph(width: int) -> tuple[str, str]:
    """What rows are ordered by, with the query as %s, and what the graph is over; see the limits above."""
    if width <= GRAPH_FULL:
        return "vector <#> %s", "vector vector_ip_ops"
    if width <= GRAPH_HALF:
        return f"vector::halfvec({width}) <#> %s::halfvec({width})", f"(vector::halfvec({width})) halfvec_ip_ops"
    bits = f"binary_quantize(vector)::bit({width})"
    return f"{bits} <~> binary_quantize(%s)::bit({width})", f"({bits}) bit_hamming_ops"
