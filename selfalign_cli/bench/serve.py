"""How long a running server takes to answer, through HTTP, and how much of that is the search itself."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np

from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Setting
from selfalign_cli.bench.report import Line
from selfalign_cli.bench.startup import untrained
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.demo.scenes.world import COLOURS, SHAPES
from selfalign_cli.errors import RunError
from selfalign_cli.search.build import build_index
from selfalign_cli.search.sources import open_feature_source

SIZES = {"tiny": 40, "small": 5000, "published": 70_000}
"""Pictures of the index."""
QUERIES = {"tiny": 5, "small": 200, "published": 200}
HITS = 48
Document = dict[str, object]
REGIONS = 4


@dataclass(frozen=True)
class Answers:
    """Answers of a server: seconds and document of each; CPU seconds of all, those of the client too."""

    seconds: list[float]
    documents: list[Document]
    cpu: float


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`, with an untrained VSRN of the scenes recipe.

    Returns:
        The sizes, and a line for searches and for explanations: median and 99th percentile.

    Raises:
        RunError: the packages of a server are not installed.
    """
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise RunError("bench serve needs the packages starlette and uvicorn", 'pip install "selfalign[serve]"')
    texts = scene_captions(QUERIES[name])
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        notify("an index")
        index = _index(Path(folder), SIZES[name])
        with _running(index, setting) as address:
            host, port = address.removeprefix("http://").split(":")
            connection = http.client.HTTPConnection(host, int(port))
            notify("questions")
            searches = _all(connection, [f"/api/search?q={quote(text)}&k={HITS}" for text in texts])
            reasons = _all(connection, [f"/api/explain?row=0&q={quote(text)}" for text in texts])
            connection.close()
    inside = statistics.median(float(str(document["milliseconds"])) / 1000 for document in searches.documents)
    return {"pictures": SIZES[name], "queries": len(texts), "hits": HITS}, [
        _line("search through HTTP", searches, inside),
        _line("explanation through HTTP", reasons, None),
    ]


def scene_captions(count: int) -> list[str]:
    """Captions in the words of scenes."""
    draw = np.random.default_rng(1)
    pairs = zip(draw.choice(COLOURS, (count, 2)).tolist(), draw.choice(SHAPES, (count, 2)).tolist(), strict=True)
    return [f"a large {c[0]} {s[0]} left of a {c[1]} {s[1]}" for c, s in pairs]


def _line(name: str, answers: Answers, inside: float | None) -> Line:
    ordered = sorted(answers.seconds)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    note = "median; floor: the search itself" if inside is not None else "median"
    numbers = {"p99_ms": 1000 * p99, "cpu_ms": 1000 * answers.cpu / len(ordered)}
    return Line(name, statistics.median(ordered), inside, numbers=numbers, note=note)


def _index(folder: Path, pictures: int) -> Path:
    checkpoint, features = untrained(folder, 24), folder / "many.h5"
    width = load_checkpoint(checkpoint).feature_dim
    draw = np.random.default_rng(0)
    texts = scene_captions(pictures)

    def records() -> Iterator[ImageRecord]:
        for number, text in enumerate(texts):
            yield ImageRecord(f"p{number}", draw.random((REGIONS, width), dtype=np.float32), "test", [text])

    write_feature_file(features, records(), total_images=pictures, total_regions=REGIONS * pictures, feature_dim=width)
    build_index(open_feature_source(checkpoint, features, None, device="cpu"), folder / "INDEX", pictures=folder)
    return folder / "INDEX"


@contextmanager
def _running(index: Path, setting: Setting) -> Iterator[str]:
    """A server of the index, in a thread; yields its address."""
    ready = threading.Event()
    from selfalign_cli.serve.run import Place, make_server  # needs packages that may not be installed

    server, listening = make_server(
        str(index),
        Place(port=0),
        device=str(setting.device),
        ready=lambda address: ready.set(),
        notify=lambda text: None,
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        ready.wait()
        yield server.address
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _all(connection: http.client.HTTPConnection, paths: list[str]) -> Answers:
    """Ask one after the other, after a few that do not count."""
    for path in paths[:3]:
        _asked(connection, path)
    began = time.process_time()
    found = [_asked(connection, path) for path in paths]
    cpu = time.process_time() - began
    return Answers([seconds for seconds, _ in found], [document for _, document in found], cpu)


def _asked(connection: http.client.HTTPConnection, path: str) -> tuple[float, Document]:
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - began
    assert answer.status == 200, content
    return seconds, json.loads(content)
