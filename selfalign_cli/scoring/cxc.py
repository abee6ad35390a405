"""`eval --cxc FOLDER`: the judgements of Crisscrossed Captions from files, and the scores of a model over them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.cxc import Positives, Recalls, recalls_between, recalls_within
from selfalign_cli.scoring.evaluate import Evaluation
from selfalign_cli.similarity import similarity

FILES = {"between": "cxc_it.json", "i2i": "cxc_i2i.json", "t2t": "cxc_t2t.json"}
TEXT_THRESHOLD, IMAGE_THRESHOLD = 3.0, 2.5  # judgements go from 0 to 5
Judged = Mapping[str, Sequence[tuple[str, float]]]
"""For each query id, ids and scores."""


def with_cxc(evaluation: Evaluation, folder: Path) -> Evaluation:
    """Add the recalls of `i2t`, `t2i`, `i2i` and `t2t` to a report; they are about all pictures and captions.

    Args:
        evaluation: from `score_files`, with ids.
        folder: holds `cxc_it.json` ({i2t, t2i}), `cxc_i2i.json` and `cxc_t2t.json`: id → list of [id, score].

    Raises:
        DataError: a file is missing or of another form, the data has no ids, or none of them was judged.
    """
    names = evaluation.names
    ids = {"picture": names.image_ids, "caption": names.caption_ids}
    missing = [kind for kind, found in ids.items() if found is None]
    if missing:
        raise DataError(f"--cxc goes by ids, and the data has no {' and no '.join(missing)} ids")
    between = _read(folder / FILES["between"])
    if not {"i2t", "t2i"} <= between.keys():
        raise DataError(f"{folder / FILES['between']} has the keys {', '.join(list(between)[:4])}; expected i2t, t2i")
    judged = {
        **{name: _judged(between[name], folder / FILES["between"]) for name in ("i2t", "t2i")},
        **{name: _judged(_read(folder / FILES[name]), folder / FILES[name]) for name in ("i2i", "t2t")},
    }
    images, captions = ([_plain(name) for name in found or ()] for found in ids.values())
    scores = cxc_scores(
        [part.vectors for part in evaluation.parts], images, captions, names.image_of_caption.tolist(), judged
    )
    return replace(evaluation, report=replace(evaluation.report, cxc=scores))


def cxc_scores(
    models: Sequence[tuple[RetrievalVectors, RetrievalVectors]],
    image_ids: Sequence[str],
    caption_ids: Sequence[str],
    image_of_caption: Sequence[int],
    judged: Mapping[str, Judged],
) -> dict[str, Recalls]:
    """Score the vectors of a model, or the mean of several.

    Args:
        models: vectors of pictures and of captions.
        image_ids, caption_ids: by row.
        image_of_caption: row of each caption's picture.
        judged: judgements under `i2t`, `t2i`, `i2i` and `t2t`.

    Raises:
        DataError: no query of some kind was judged.
    """
    models = [(_double(pictures), _double(texts)) for pictures, texts in models]
    rows = {name: row for row, name in enumerate(image_ids)}, {name: row for row, name in enumerate(caption_ids)}
    siblings: dict[int, list[int]] = {}
    for caption, image in enumerate(image_of_caption):
        siblings.setdefault(image, []).append(caption)
    right: dict[str, Positives] = {
        "i2t": _positives(judged["i2t"], image_ids, rows[1], -math.inf),
        "t2i": _positives(judged["t2i"], caption_ids, rows[0], -math.inf),
        "i2i": _positives(judged["i2i"], image_ids, rows[0], IMAGE_THRESHOLD),
        "t2t": [
            sorted({*found, *siblings[image]} - {caption})
            for caption, (found, image) in enumerate(
                zip(_positives(judged["t2t"], caption_ids, rows[1], TEXT_THRESHOLD), image_of_caption, strict=True)
            )
        ],
    }
    empty = [name for name, found in right.items() if not any(found)]
    if empty:
        raise DataError(f"--cxc: none of these pictures and captions was judged for {', '.join(empty)}")

    def score(queries: str, candidates: str, picked: slice) -> Tensor:
        parts = []
        for pictures, texts in models:
            sides = {"i": pictures, "t": texts}
            parts.append(_scores(sides[queries], sides[candidates], queries, candidates, picked))
        return torch.stack(parts).mean(0)

    found = {}
    for name, positives in right.items():
        first, second = name.split("2")
        recalls = recalls_within if first == second else recalls_between
        found[name] = recalls(lambda picked, a=first, b=second: score(a, b, picked), positives)  # type: ignore[misc]
    return found


def _scores(queries: RetrievalVectors, candidates: RetrievalVectors, first: str, second: str, picked: slice) -> Tensor:
    """Inner products (q, N); of pictures with views, the largest, of two pictures over all pairs of views."""
    part = RetrievalVectors(queries.pooled[picked], queries.shared[picked])
    if (first, second) == ("i", "t"):
        return similarity(part, candidates)
    if (first, second) == ("t", "i"):
        return similarity(candidates, part).T
    products = part.pooled.flatten(0, -2) @ candidates.pooled.flatten(0, -2).T
    views = 1 if first == "t" else part.pooled.shape[1]
    best = products.view(len(part.shared), views, len(candidates.shared), views).amax((1, 3))
    return best + part.shared @ candidates.shared.T


def _double(vectors: RetrievalVectors) -> RetrievalVectors:
    return RetrievalVectors(vectors.pooled.double(), vectors.shared.double())


def _positives(judged: Judged, queries: Sequence[str], rows: Mapping[str, int], least: float) -> Positives:
    """Rows of what was judged at least so for each query; ids that are not in the set are left out."""
    return [
        [rows[name] for name, score in judged.get(query, ()) if score >= least and name in rows] for query in queries
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as fault:
        raise DataError(
            f"--cxc: cannot read {path}: {fault.strerror}", f"it needs {', '.join(FILES.values())}"
        ) from fault
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is not JSON: {fault}") from fault
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}; expected lists by id")
    return content


def _judged(content: object, path: Path) -> Judged:
    try:
        return {
            _plain(query): [(_plain(str(name)), float(score)) for name, score in found]
            for query, found in content.items()  # type: ignore[attr-defined]
        }
    except (AttributeError, TypeError, ValueError) as fault:
        raise DataError(f"{path} holds something else than lists of [id, score] by id") from fault


def _plain(name: str) -> str:
    """COCO's number from names such as COCO_val2014_000000391895.jpg; other ids as they are."""
    stem = name.rsplit("_", 1)[-1].removesuffix(".jpg")
    return str(int(stem)) if stem.isascii() and stem.isdigit() else name
