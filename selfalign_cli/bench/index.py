"""Searching and making an index: what the scan, the shared block and the graph bring, and what growing costs."""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Setting, alternate
from selfalign_cli.bench.report import Line
from selfalign_cli.bench.startup import untrained
from selfalign_cli.data.progress import no_progress
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.search.build import build_index
from selfalign_cli.search.engines.folder import FolderEngine
from selfalign_cli.search.engines.port import Entry, Facts
from selfalign_cli.search.graph import Graph, add_graph
from selfalign_cli.search.index import Index
from selfalign_cli.search.scan import Part, exact_top
from selfalign_cli.search.segment import Stored, longest, power_of_two
from selfalign_cli.search.sources import FeatureSource, open_feature_source

TOP = 10
TRUE_WIDTH = 192
"""Dimensions that made-up vectors vary in: trained ones do not fill their width either."""
QUERIES = 20
NOBODY = np.empty(0, np.int64)


@dataclass(frozen=True)
class IndexSize:
    """Collections to search.

    Attributes:
        rows, width: of one view.
        views, view_rows, view_width, context: of several, with a shared block.
        graph_rows: pictures in a graph.
        small, large, more: pictures of two indexes, and how many are added to each.
        images: pictures of the train split of the scenes that are encoded.
        processes: cold processes that are timed.
    """

    rows: int
    width: int
    views: int
    view_rows: int
    view_width: int
    context: int
    graph_rows: int
    small: int
    large: int
    more: int
    images: int
    processes: int


SIZES = {
    "tiny": IndexSize(300, 16, 3, 50, 8, 4, 300, 20, 60, 5, 12, 1),
    "small": IndexSize(20_000, 1024, 12, 1000, 512, 1024, 20_000, 1000, 50_000, 100, 1000, 5),
    "published": IndexSize(50_000, 2048, 12, 5000, 2048, 4096, 50_000, 1000, 200_000, 100, 2000, 9),
}


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`.

    Returns:
        The dimensions, and the lines.
    """
    size = SIZES[name]
    with torch.inference_mode(), TemporaryDirectory(prefix="selfalign-bench-") as folder:
        notify("exact search")
        lines = [*_scan(size, setting), _views(size, setting)]
        if importlib.util.find_spec("faiss") is not None:
            notify("a graph")
            lines.append(_graph(size, setting, Path(folder)))
        notify("growing")
        lines += _growing(size, setting, Path(folder))
        notify("indexing and searching scenes")
        lines += _scenes(size, setting, Path(folder))
    return asdict(size), lines


def made_up(rows: int, width: int, *, seed: int = 0) -> Tensor:
    """(rows, width) vectors of length 1 that vary in TRUE_WIDTH dimensions, the later ones less."""
    draw = torch.Generator().manual_seed(seed)
    true = min(width, TRUE_WIDTH)
    falling = torch.arange(1, true + 1) ** -0.5
    turned = torch.linalg.qr(torch.randn(width, true, generator=torch.Generator().manual_seed(99))).Q
    vectors = torch.randn(rows, true, generator=draw) * falling
    return torch.nn.functional.normalize(vectors @ turned.T, dim=1)


def _part(vectors: RetrievalVectors) -> Part:
    length = longest(vectors)
    scale = power_of_two(length)
    coarse = RetrievalVectors((vectors.pooled * scale).half(), (vectors.shared * scale).half())
    return Part(Stored(coarse, vectors, scale, length), 0, NOBODY)


def _scan(size: IndexSize, setting: Setting) -> list[Line]:
    """Text in float16 against float32, against faiss; and whether the answers are those of float64."""
    rows = made_up(size.rows, size.width)
    part = _part(RetrievalVectors(rows.unsqueeze(1), torch.empty(size.rows, 0)))
    asked = made_up(QUERIES, size.width, seed=1)
    queries = [RetrievalVectors(query.unsqueeze(0), torch.empty(1, 0)) for query in asked]
    halves = [(query * part.stored.scale).half() for query in asked]
    coarse = part.stored.coarse.pooled.squeeze(1)
    numbers = iter(range(1 << 30))

    def each(work: Callable[[int], object]) -> Callable[[], object]:
        return lambda: work(next(numbers) % QUERIES)

    work = {
        "half": each(lambda at: torch.mv(coarse, halves[at])),
        "float": each(lambda at: torch.mv(rows, asked[at])),
        "float, top": each(lambda at: torch.mv(rows, asked[at]).topk(min(TOP, size.rows))),
        "search": each(lambda at: exact_top([part], queries[at], TOP, "dot")),
    }
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(setting.threads)
        flat = faiss.IndexFlatIP(size.width)
        flat.add(rows.numpy())
        work["faiss"] = each(lambda at: flat.search(asked[at : at + 1].numpy(), TOP))
    seconds = alternate(work, setting)
    exact = (rows.double() @ asked.double().T).float()
    same = sum(
        exact_top([part], query, TOP, "dot").candidates[0].tolist()
        == exact[:, at].argsort(descending=True, stable=True)[:TOP].tolist()
        for at, query in enumerate(queries)
    )
    name = f"{size.rows:,} x {size.width:,}"
    lines = [
        Line(f"scan, {name}", seconds["half"], plain=seconds["float"], note="float16; plain: torch.mv in float32"),
        Line(
            f"exact search, {name}",
            seconds["search"],
            plain=seconds["float, top"],
            numbers={"as_in_float64": same / QUERIES},
            note="plain: torch.mv in float32 and topk",
        ),
    ]
    if "faiss" in seconds:
        lines.append(
            Line(f"beside faiss, {name}", seconds["search"], plain=seconds["faiss"], note="plain: IndexFlatIP")
        )
    return lines


def _views(size: IndexSize, setting: Setting) -> Line:
    """Several views and a shared block that is stored once, against a copy of it in each view."""
    rows, views = size.view_rows, size.views
    pooled = made_up(rows * views, size.view_width).view(rows, views, -1)
    shared = made_up(rows, size.context, seed=2)
    vectors = RetrievalVectors(pooled, shared)
    part, flat = _part(vectors), vectors.concatenated().flatten(0, 1)
    query = RetrievalVectors(made_up(1, size.view_width, seed=3), made_up(1, size.context, seed=4))
    whole = query.concatenated()[0]
    seconds = alternate(
        {
            "ours": lambda: exact_top([part], query, TOP, "dot"),
            "plain": lambda: torch.mv(flat, whole).view(rows, views).amax(dim=1).topk(min(TOP, rows)),
        },
        setting,
    )
    name = f"{rows:,} x {views} views"
    return Line(f"exact search, {name}", seconds["ours"], plain=seconds["plain"], note="plain: flat, in float32")


def _entries(vectors: Tensor, first: int = 0) -> list[Entry]:
    digest = "00" * 16
    return [Entry(f"p{first + row}", one.unsqueeze(0).numpy(), digest) for row, one in enumerate(vectors)]


def _filled(folder: Path, vectors: Tensor) -> FolderEngine:
    engine = FolderEngine(folder)
    engine.create(Facts(1, vectors.shape[1], 0))
    for start in range(0, len(vectors), 4096):
        engine.add(_entries(vectors[start : start + 4096], start))
    return engine


def _graph(size: IndexSize, setting: Setting, folder: Path) -> Line:
    """The graph against the exact search, and its recall."""
    place = folder / "graph"
    _filled(place, made_up(size.graph_rows, size.width, seed=5))
    began = time.perf_counter()
    facts = add_graph(place)
    building = time.perf_counter() - began
    index = Index.open(place)
    graph = Graph.open(index)
    query = RetrievalVectors(made_up(1, size.width, seed=6), torch.empty(1, 0))
    seconds = alternate({"ours": lambda: graph.search(query, TOP), "plain": lambda: index.search(query, TOP)}, setting)
    numbers = {"recall_at_10": facts.recall, "build_seconds": building}
    return Line(
        f"graph, {size.graph_rows:,}", seconds["ours"], plain=seconds["plain"], numbers=numbers, note="plain: exact"
    )


def _growing(size: IndexSize, setting: Setting, folder: Path) -> list[Line]:
    """Adding pictures to a small and to a large index."""
    width = min(size.width, TRUE_WIDTH)
    engines = {
        name: _filled(folder / name, made_up(count, width)) for name, count in (("s", size.small), ("l", size.large))
    }
    numbers = iter(range(1 << 20, 1 << 30, size.more))
    more = made_up(size.more, width, seed=7)
    work = {name: _adding(engine, more, numbers) for name, engine in engines.items()}
    seconds = alternate(work, setting)
    name = f"adding {size.more:,} to {size.large:,}"
    return [Line(name, seconds["l"], seconds["s"], note=f"floor: adding them to {size.small:,}")]


def _adding(engine: FolderEngine, more: Tensor, numbers: Iterator[int]) -> Callable[[], object]:
    return lambda: engine.add(_entries(more, next(numbers)))


def _scenes(size: IndexSize, setting: Setting, folder: Path) -> list[Line]:
    """Indexing against encoding alone, and a cold search against the import of torch."""
    checkpoint = untrained(folder, size.images)
    source = open_feature_source(checkpoint, None, "train", device="cpu")
    assert isinstance(source, FeatureSource)
    texts = [text for row in source.rows.tolist() for text in source.texts_of(row)]
    place, numbers = folder / "scenes.index", iter(range(1 << 20))

    def encode() -> None:
        source.retriever.encode_pictures(source.file, rows=source.rows)
        source.retriever.encode_texts(texts)

    seconds = alternate(
        {
            "index": lambda: build_index(source, folder / f"{next(numbers)}.index", progress=no_progress),
            "encode": encode,
        },
        setting,
    )
    build_index(source, place)
    commands = {
        "search": ["-c", "from selfalign_cli.cli.app import main; main()", "search", str(place), "a red star"],
        "torch": ["-c", "import torch"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(size.processes + 1):
        for name, arguments in commands.items():
            taken[name].append(_cpu_seconds(arguments, setting.threads))
    cold = {name: float(np.median(values[1:])) for name, values in taken.items()}
    return [
        Line("index, scenes", seconds["index"], seconds["encode"], note="floor: encoding pictures and captions"),
        Line("cold search, CPU", cold["search"], cold["torch"], note="CPU seconds; floor: import torch"),
    ]


def _cpu_seconds(arguments: list[str], threads: int) -> float:
    """User and system time of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
