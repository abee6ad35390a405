"""Two results over the same queries, side by side: files → ranks → paired difference."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfalign_cli.errors import DataError
from selfalign_cli.metrics.bootstrap import Difference, paired_difference
from selfalign_cli.metrics.ranks import Ranks, check_truth
from selfalign_cli.metrics.recall import merge_folds, rank_folds
from selfalign_cli.metrics.report import query_hash
from selfalign_cli.scoring.embeddings import expect_captions, is_embedding_file, read_embeddings

LARGEST = 1 << 48
"""Larger than any rank; what is beyond is damage."""
HEADER = ("metric", "first", "second", "difference", "95% interval", "")


@dataclass(frozen=True)
class Comparison:
    """Second minus first.

    Attributes:
        first: the first file.
        second: the second file.
        images: number of pictures.
        captions: number of captions.
        differences: one per metric.
    """

    first: str
    second: str
    images: int
    captions: int
    differences: list[Difference]

    def to_json(self) -> dict[str, object]:
        """The document of `selfalign compare --json`."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Table rows under `HEADER`; a star where the interval leaves out zero."""
        return [
            (
                part.metric,
                f"{part.first:.3f}",
                f"{part.second:.3f}",
                f"{part.difference:+.3f}",
                f"[{part.low:+.3f}, {part.high:+.3f}]",
                "*" if part.clear else "",
            )
            for part in self.differences
        ]


@dataclass(frozen=True)
class _Result:
    ranks: Ranks
    queries: str | None
    folds: int


def compare_files(first: Path, second: Path, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two results, each an embedding file or what `selfalign eval --json --ranks` has printed.

    Args:
        first: the one to compare against.
        second: the one of interest.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        DataError: a file without per-query ranks or without captions, or results over different queries.
        CheckpointError: a damaged embedding file.
    """
    a, b = _read(first), _read(second)
    if a.folds != b.folds:
        raise DataError(
            f"{first} was ranked in {a.folds} folds, {second} in {b.folds}", "rank both in the same number of folds"
        )
    if a.queries is not None and b.queries is not None and a.queries != b.queries:
        raise DataError(
            f"{first} and {second} are about different queries: their picture ids, captions or their order differ",
            "compare results of the same split of the same data",
        )
    differences = paired_difference(a.ranks, b.ranks, resamples=resamples, seed=seed)
    return Comparison(str(first), str(second), len(a.ranks.i2t_rank), len(a.ranks.t2i_rank), differences)


def _read(path: Path) -> _Result:
    """Ranks from either kind of file."""
    if not is_embedding_file(path):
        return _read_report(path)
    file = read_embeddings(path)
    expect_captions(path, file)
    ranks = merge_folds(*rank_folds([file.vectors], file.image_of_caption))
    if file.image_ids is None or file.caption_texts is None:
        return _Result(ranks, None, 1)
    return _Result(ranks, query_hash(file.image_ids, file.caption_texts, file.image_of_caption.tolist()), 1)


def _read_report(path: Path) -> _Result:
    """Ranks from a report that holds them."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise DataError(f"{path}: cannot be read ({fault.strerror})") from fault
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path}: is neither JSON nor an embedding file (.h5, .npz)") from fault
    ranks = document.get("ranks") if isinstance(document, dict) else None
    if not isinstance(ranks, dict):
        raise DataError(f"{path}: holds no ranks of single queries", f"selfalign eval … --json --ranks > {path.name}")
    i2t, t2i, truth = (_whole_numbers(path, ranks, name) for name in ("i2t", "t2i", "image_of_caption"))
    if not len(i2t) or not len(t2i) or len(t2i) != len(truth) or min(int(i2t.min()), int(t2i.min())) < 1:
        raise DataError(
            f"{path}: {len(i2t)} picture ranks, {len(t2i)} caption ranks, {len(truth)} rows of image_of_caption; "
            "expected one rank >= 1 per query"
        )
    truth = check_truth(truth, len(i2t), len(t2i))
    nothing = torch.zeros(0)
    queries, folds = document.get("queries"), document.get("folds", 1)
    return _Result(
        Ranks(i2t - 1, t2i - 1, nothing.long(), nothing.long(), nothing, nothing, truth),
        queries if isinstance(queries, str) else None,
        folds if isinstance(folds, int) else 1,
    )


def _whole_numbers(path: Path, ranks: dict[str, Any], name: str) -> Tensor:
    """A list of whole numbers as int64."""
    values = ranks.get(name)
    if not isinstance(values, list) or any(type(value) is not int or abs(value) > LARGEST for value in values):
        raise DataError(f"{path}: ranks.{name} is missing or not a list of whole numbers")
    return torch.tensor(values, dtype=torch.int64)
