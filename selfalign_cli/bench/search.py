"""Search by text over exported embeddings: text in, the ten best pictures out; beside it, stacked cross attention."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.bench import inputs
from selfalign_cli.bench.machine import Rates, Work
from selfalign_cli.bench.measure import Setting, alternate
from selfalign_cli.bench.plain.cross_attention import score_caption
from selfalign_cli.bench.report import Line
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.scoring.embedding_writer import write_embeddings
from selfalign_cli.scoring.embeddings import read_embeddings

TOP = 10
TOGETHER = 64
"""Queries answered at once where throughput counts."""


@dataclass(frozen=True)
class SearchSize:
    """A collection and the queries to it.

    Attributes:
        model: dimensions of the model.
        images: N.
        queries: captions that are asked one after the other.
        attention_dim: width of regions and words in stacked cross attention.
        attention_images: pictures scored by it; the rest is extrapolated.
        split: pictures and captions of a split that is scored as a whole, as in evaluation.
    """

    model: inputs.ModelSize
    images: int
    queries: int
    attention_dim: int
    attention_images: int
    split: tuple[int, int]


SIZES = {
    "tiny": SearchSize(inputs.TINY, 30, 5, 8, 4, (10, 20)),
    "small": SearchSize(inputs.SIZES["small"], 1000, 200, 256, 100, (1000, 5000)),
    "published": SearchSize(inputs.SIZES["published"], 5000, 200, 1024, 250, (1000, 5000)),
}


@dataclass(frozen=True)
class Collection:
    """What a search runs on: a model, and the pictures of an embedding file."""

    retriever: Retriever
    gallery: RetrievalVectors

    def encode(self, texts: list[str]) -> RetrievalVectors:
        """Texts to vectors (Q, D), where the pictures are."""
        vectors = self.retriever.encode_texts(texts).concatenated().to(self.gallery.pooled.device)
        return RetrievalVectors(vectors, vectors[:, :0])

    def score(self, queries: RetrievalVectors) -> Tensor:
        """Scores (N, Q)."""
        return self.retriever.score(self.gallery, queries)

    def rank(self, scores: Tensor) -> list[list[int]]:
        """Rows of the best pictures, best first."""
        rows: list[list[int]] = scores.T.topk(min(TOP, len(scores)), dim=1).indices.tolist()
        return rows


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`.

    Returns:
        The dimensions, and the lines.
    """
    size = SIZES[name]
    notify(f"search over {size.images:,} pictures")
    texts = inputs.captions(size.queries, size.model.words)
    with torch.inference_mode():
        collection = _collection(size, setting)
        single = _one_by_one(collection, texts, setting)
        together = _together(collection, texts, setting)
        tokens = collection.retriever.tokenize(texts[:1]).row(0)
        attention = _cross_attention(size, len(tokens), setting, notify)
        whole_split = _whole_split(size, attention / size.images, setting)
    floor = rates.floor(Work(bytes=4.0 * size.images * 3 * size.model.dim))
    note = f"of {size.images:,} pictures; stacked cross attention extrapolated from {size.attention_images:,}"
    scored = replace(single["score"], floor=floor, plain=attention, note=f"scores {note}; floor: reading the vectors")
    whole = replace(
        single["whole query"],
        plain=attention + (single["encode"].seconds or 0.0) + (single["rank"].seconds or 0.0),
        note="text in, top ten out; plain: with stacked cross attention",
    )
    exact = replace(single["exact search"], note="text in, top ten out by Retriever.search, which decides near ties")
    return asdict(size), [single["encode"], scored, single["rank"], whole, exact, together, whole_split]


def _collection(size: SearchSize, setting: Setting) -> Collection:
    """A model, and made-up pictures that have been written to an embedding file and read again.

    Every picture has one view, so its context block is appended once and not for every query.
    """
    retriever = Retriever(
        parse_recipe(inputs.RECIPE.format_map(vars(size.model)), [], "bench"),
        inputs.build(size.model, setting.device).model,
        inputs.vocabulary(size.model.words),
        feature_dim=size.model.features,
        device=setting.device,
    )
    dim = size.model.dim
    images = inputs.directions(size.images, 1, dim, device=torch.device("cpu"))
    shared = inputs.directions(size.images, 2 * dim, device=torch.device("cpu"), seed=1)
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        path = Path(folder) / "bench.h5"
        write_embeddings(
            path,
            RetrievalVectors(images, shared),
            RetrievalVectors(images[:0, 0], shared[:0]),
            image_of_caption=torch.empty(0, dtype=torch.int64),
            image_ids=[str(row) for row in range(size.images)],
            caption_texts=[],
            attributes={},
        )
        found = read_embeddings(path)
    vectors = found.images.concatenated().to(setting.device)
    return Collection(retriever, RetrievalVectors(vectors, vectors[:, 0, :0]))


def _one_by_one(collection: Collection, texts: list[str], setting: Setting) -> dict[str, Line]:
    """Latency of each part, one query after the other."""
    spent: dict[str, list[float]] = {"encode": [], "score": [], "rank": [], "whole query": [], "exact search": []}
    steps = (("encode", 0, 1), ("score", 1, 2), ("rank", 2, 3), ("whole query", 0, 3), ("exact search", 3, 4))
    for text in [*texts[: len(texts) // 10 + 1], *texts]:
        marks = [time.perf_counter()]
        query = collection.encode([text])
        setting.wait()
        marks.append(time.perf_counter())
        scores = collection.score(query)
        setting.wait()
        marks.append(time.perf_counter())
        collection.rank(scores)
        marks.append(time.perf_counter())
        collection.retriever.search(collection.encode([text]), collection.gallery, TOP)
        marks.append(time.perf_counter())
        for name, first, last in steps:
            spent[name].append(marks[last] - marks[first])
    return {name: _latency(name, taken[-len(texts) :]) for name, taken in spent.items()}


def _latency(name: str, spent: list[float]) -> Line:
    return Line(name, statistics.median(spent), numbers={"p99_seconds": float(np.quantile(spent, 0.99))})


def _together(collection: Collection, texts: list[str], setting: Setting) -> Line:
    """Throughput with many queries at once."""
    some = texts[:TOGETHER]
    work = {"ours": lambda: collection.rank(collection.score(collection.encode(some)))}
    seconds = alternate(work, setting, budget=5.0)["ours"]
    return Line(
        f"{len(some)} queries together",
        seconds,
        numbers={"queries_per_second": len(some) / seconds},
        note="throughput",
    )


def _whole_split(size: SearchSize, attention: float, setting: Setting) -> Line:
    """All scores of a split: one product, against cross attention of every caption with every picture."""
    images, captions = size.split
    dim = 3 * size.model.dim
    pictures = inputs.directions(images, dim, device=setting.device)
    texts = inputs.directions(captions, dim, device=setting.device, seed=1)
    seconds = alternate({"ours": lambda: texts @ pictures.T}, setting, budget=5.0)["ours"]
    note = "all scores of a split; plain: stacked cross attention, extrapolated from one caption"
    return Line(
        f"{images:,} pictures x {captions:,} captions", seconds, plain=attention * images * captions, note=note
    )


def _cross_attention(size: SearchSize, length: int, setting: Setting, notify: Callable[[str], None]) -> float:
    """Seconds that stacked cross attention takes to score one caption of some length with all pictures."""
    notify("stacked cross attention on the same pictures")
    shape = (size.attention_images, size.model.regions, size.attention_dim)
    regions = inputs.directions(*shape, device=setting.device)
    words = inputs.directions(length, size.attention_dim, device=setting.device, seed=1)
    seconds = alternate({"plain": lambda: score_caption(regions, words)}, setting, budget=5.0)["plain"]
    return seconds * size.images / size.attention_images
