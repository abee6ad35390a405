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

from selfalign_cli.bench import inputs
from selfalign_cli.bench.machine import Rates, Work
from selfalign_cli.bench.measure import Setting, alternate
from selfalign_cli.bench.plain.cross_attention import score_caption
from selfalign_cli.bench.report import Line
from selfalign_cli.data.text.token_table import collate_texts
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.models.retrieval import RetrievalModel
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
    """What a search runs on: the model's text side, and the pictures of an embedding file."""

    model: RetrievalModel
    vocabulary: Vocabulary
    images: Tensor
    device: torch.device

    def encode(self, texts: list[str]) -> Tensor:
        """Texts to vectors (Q, D)."""
        batch = collate_texts([self.vocabulary.encode(text) for text in texts])
        return self.model.encode_text(batch.to(self.device)).vectors.concatenated()

    def score(self, queries: Tensor) -> Tensor:
        """Scores (Q, N)."""
        return queries @ self.images.T

    def rank(self, scores: Tensor) -> list[list[int]]:
        """Rows of the best pictures, best first."""
        rows: list[list[int]] = scores.topk(min(TOP, scores.shape[1]), dim=1).indices.tolist()
        return rows


def run(
    name: str, setting: Setting, rates: Rates, tell: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`.

    Returns:
        The dimensions, and the lines.
    """
    size = SIZES[name]
    tell(f"search over {size.images:,} pictures")
    texts = inputs.captions(size.queries, size.model.words)
    with torch.inference_mode():
        collection = _collection(size, setting)
        single = _one_by_one(collection, texts, setting)
        together = _together(collection, texts, setting)
        attention = _cross_attention(size, collection.vocabulary.encode(texts[0]), setting, tell)
        whole_split = _whole_split(size, attention / size.images, setting)
    floor = rates.floor(Work(bytes=4.0 * size.images * 3 * size.model.dim))
    note = f"of {size.images:,} pictures; stacked cross attention extrapolated from {size.attention_images:,}"
    scored = replace(single["score"], floor=floor, plain=attention, note=f"scores {note}; floor: reading the vectors")
    whole = replace(
        single["whole query"],
        plain=attention + (single["encode"].seconds or 0.0) + (single["rank"].seconds or 0.0),
        note="text in, top ten out; plain: with stacked cross attention",
    )
    return asdict(size), [single["encode"], scored, single["rank"], whole, together, whole_split]


def _collection(size: SearchSize, setting: Setting) -> Collection:
    """A model, and made-up pictures that have been written to an embedding file and read again."""
    model = inputs.build(size.model, setting.device).model.eval()
    dim = size.model.dim
    images = inputs.directions(size.images, 1, dim, device=torch.device("cpu"))
    shared = inputs.directions(size.images, 2 * dim, device=torch.device("cpu"), seed=1)
    truth = torch.arange(size.images)
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        path = Path(folder) / "bench.h5"
        write_embeddings(
            path,
            RetrievalVectors(images, shared),
            RetrievalVectors(images[:, 0], shared),
            image_of_caption=truth,
            image_ids=[str(row) for row in range(size.images)],
            caption_texts=[str(row) for row in range(size.images)],
            attributes={},
        )
        found = read_embeddings(path)
    vectors = found.images.concatenated()[:, 0].contiguous().to(setting.device)
    return Collection(model, inputs.vocabulary(size.model.words), vectors, setting.device)


def _one_by_one(collection: Collection, texts: list[str], setting: Setting) -> dict[str, Line]:
    """Latency of each part, one query after the other."""
    spent: dict[str, list[float]] = {"encode": [], "score": [], "rank": [], "whole query": []}
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
        for name, first, last in (("encode", 0, 1), ("score", 1, 2), ("rank", 2, 3), ("whole query", 0, 3)):
            spent[name].append(marks[last] - marks[first])
    return {name: _latency(name, taken[-len(texts) :]) for name, taken in spent.items()}


def _latency(name: str, spent: list[float]) -> Line:
    return Line(name, statistics.median(spent), numbers={"p99_seconds": float(np.quantile(spent, 0.99))})


def _together(collection: Collection, texts: list[str], setting: Setting) -> Line:
    """Throughput with many queries at once."""
    some = texts[:TOGETHER]
    ways = {"ours": lambda: collection.rank(collection.score(collection.encode(some)))}
    seconds = alternate(ways, setting, budget=5.0)["ours"]
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


def _cross_attention(size: SearchSize, ids: list[int], setting: Setting, tell: Callable[[str], None]) -> float:
    """Seconds that stacked cross attention takes to score one caption with all pictures."""
    tell("stacked cross attention on the same pictures")
    shape = (size.attention_images, size.model.regions, size.attention_dim)
    regions = inputs.directions(*shape, device=setting.device)
    words = inputs.directions(len(ids), size.attention_dim, device=setting.device, seed=1)
    seconds = alternate({"plain": lambda: score_caption(regions, words)}, setting, budget=5.0)["plain"]
    return seconds * size.images / size.attention_images
