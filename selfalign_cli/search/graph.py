"""`--ann`: a graph over the vectors (HNSW by faiss), for collections that are too large to scan.

It gives candidates by inner product, which are scored exactly; what it misses is missed, so its recall is measured
when it is made. Segments that came later are scanned, and dead rows are passed over, until it is made again.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfalign_cli.data.atomic import replacing
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.top_k import Top
from selfalign_cli.search import layout
from selfalign_cli.search.index import Index
from selfalign_cli.search.layout import GraphFacts
from selfalign_cli.search.scan import Part, exact_top, merged_views, rescored

NEIGHBOURS = 32
BUILD_EFFORT = 80
SEARCH_EFFORT = 96
"""Candidates that a search keeps, at least."""
SPARE = 16
"""Pictures that are scored exactly beyond those wanted."""
SAMPLE = 200
"""Queries of the measurement."""
TOP = 10


def add_graph(folder: Path) -> GraphFacts:
    """Make the graph of an index, measure it, and name it in the manifest.

    Raises:
        DataError: faiss is not installed, the index is scored by the order measure, or is empty.
    """
    faiss = require_faiss()
    index = Index.open(folder)
    manifest = index.manifest
    if manifest.similarity != "dot":
        raise DataError(f"{folder} is scored by the order measure; a graph is over inner products", "leave out --ann")
    if not len(index):
        raise DataError(f"{folder} is empty; a graph needs pictures")
    graph = faiss.IndexHNSWFlat(manifest.width + manifest.context, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILD_EFFORT
    for segment in index.segments:
        graph.add(segment.pictures.fine.concatenated().flatten(0, 1).numpy())
    file = f"hnsw-{manifest.identity}.faiss"
    with replacing(folder / file) as temporary:
        faiss.write_index(graph, os.fspath(temporary))
    queries = _sample(index)
    held = [(segment.entry.name, segment.entry.pictures) for segment in index.segments]
    found = Graph(index, graph, held).search(queries, TOP)
    exact = index.search(queries, TOP)
    pairs = zip(found.candidates.tolist(), exact.candidates.tolist(), strict=True)
    shares = [len({*one} & {*other}) / len(other) for one, other in pairs]
    facts = GraphFacts(
        file=file,
        segments=held,
        recall=sum(shares) / len(shares),
        sample=len(shares),
    )
    layout.write_manifest(folder, manifest.model_copy(update={"graph": facts}))
    layout.remove_unnamed(folder, layout.read_manifest(folder))
    return facts


class Graph:
    """The graph of an index, opened.

    Args:
        index: the index.
        graph: of faiss.
        segments: name and size of those whose pictures it holds, in its order.
    """

    def __init__(self, index: Index, graph: Any, segments: Sequence[tuple[str, int]]) -> None:
        self._index, self._graph = index, graph
        inside = dict(segments)
        rows = {name: np.full(size, -1, dtype=np.int64) for name, size in segments}  # -1: gone since
        self._outside: list[Part] = []
        for segment, part in zip(index.segments, index.parts("pictures"), strict=True):
            if segment.entry.name in inside:
                rows[segment.entry.name][:] = np.arange(part.start, part.stop)
                rows[segment.entry.name][part.dead] = -1
            else:
                self._outside.append(part)
        self._rows = np.concatenate(list(rows.values()))

    @classmethod
    def open(cls, index: Index) -> Graph:
        """Read the graph of an index.

        Raises:
            DataError: the index has none, it is damaged, or faiss is not installed.
        """
        facts = index.manifest.graph
        if facts is None:
            raise DataError(
                f"{index.folder} has no graph", "make one: the command that made the index, with --update --ann"
            )
        faiss = require_faiss()
        try:
            graph = faiss.read_index(os.fspath(index.folder / facts.file))
        except RuntimeError as fault:
            raise DataError(f"{index.folder / facts.file} cannot be read", "make it again: --update --ann") from fault
        return cls(index, graph, facts.segments)

    def search(self, queries: RetrievalVectors, k: int) -> Top:
        """Like `Index.search`, but a picture may be missed; scores are exact."""
        if queries.pooled.dim() == 2:
            return self._search(queries, k)
        count, views, width = queries.pooled.shape
        single = RetrievalVectors(
            queries.pooled.reshape(count * views, width), queries.shared.repeat_interleave(views, dim=0)
        )
        return merged_views(self._search(single, k), views, k)

    def _search(self, queries: RetrievalVectors, k: int) -> Top:
        index = self._index
        depth = min(k, len(index))
        views = index.manifest.views
        limit = min(self._graph.ntotal, (depth + SPARE) * views)  # its distances are full ones: few spare do
        self._graph.hnsw.efSearch = max(SEARCH_EFFORT, limit)
        numbers = self._graph.search(queries.concatenated().contiguous().numpy(), limit)[1]
        rows = torch.from_numpy(np.where(numbers < 0, -1, self._rows[numbers // views]))
        if self._outside:
            later = exact_top(self._shifted(), queries, k, "dot")
            starts = torch.tensor([part.start for part in self._outside])
            lengths = torch.tensor([part.stop - part.start for part in self._outside]).cumsum(0)
            number = torch.searchsorted(lengths, later.candidates, right=True)
            offset = later.candidates - torch.cat([torch.zeros(1, dtype=torch.int64), lengths])[number]
            rows = torch.cat([rows, starts[number] + offset], dim=1)
        return rescored(index.parts("pictures"), queries, _each_once(rows), depth, "dot")

    def _shifted(self) -> list[Part]:
        """The parts outside the graph as a collection of their own."""
        shifted, start = [], 0
        for part in self._outside:
            shifted.append(replace(part, start=start))
            start += part.stop - part.start
        return shifted


def _each_once(rows: Tensor) -> Tensor:
    """Candidates of each query, each once; -1 in the place of the others."""
    ordered = rows.sort(dim=1).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(again, -1)


def _sample(index: Index) -> RetrievalVectors:
    """Vectors of captions, or of pictures where there are none, spread over the collection."""
    captions = [segment.captions.fine for segment in index.segments if segment.entry.captions]
    if not captions:
        captions = [RetrievalVectors(part.pooled[:, :1], part.shared) for part in _pictures(index)]
    pooled = torch.cat([part.pooled[:, 0] for part in captions])
    shared = torch.cat([part.shared for part in captions])
    chosen = torch.linspace(0, len(pooled) - 1, min(SAMPLE, len(pooled))).round().long()
    return RetrievalVectors(pooled[chosen], shared[chosen])


def _pictures(index: Index) -> list[RetrievalVectors]:
    return [segment.pictures.fine for segment in index.segments]


def require_faiss() -> Any:
    """The module.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as fault:
        raise DataError("--ann needs faiss, which is not installed", "pip install 'selfalign[ann]'") from fault
