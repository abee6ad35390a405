"""ECCV Caption and CxC scores of COCO's 5,000 test pictures, by the package `eccv-caption` (extra `metrics`).

The package holds which captions fit which pictures by human judgement, beyond the five of each picture
(Chun et al., ECCV 2022, and Parekh et al., EACL 2021). It goes by COCO's numbers of pictures and captions.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any

from selfalign_cli.errors import DataError
from selfalign_cli.metrics.recall import cut_folds
from selfalign_cli.scoring.evaluate import Evaluation

CXC_RECALLS = (1, 5, 10)
INSTALL = 'pip install "selfalign[metrics]"'
CONVERT = (
    "convert testall with Karpathy's dataset_coco.json, whose ids are COCO's: "
    "selfalign convert-features SOURCE --captions dataset_coco.json --out FILE.h5"
)
_PICTURE = re.compile(r"(?:COCO_\w+_)?0*([0-9]{1,12})(?:\.jpg)?")
_CAPTION = re.compile(r"[0-9]{1,12}")

Retrieved = Mapping[int, Sequence[int]]


def open_metrics() -> Any:
    """Open the package.

    Returns:
        Its `Metrics`, with the ground truth read.

    Raises:
        DataError: it is not installed.
    """
    try:
        with warnings.catch_warnings():  # about optional packages that would read its files faster
            warnings.simplefilter("ignore")
            package = importlib.import_module("eccv_caption")
    except ImportError as fault:
        raise DataError("--eccv needs the package eccv-caption, which is not installed", INSTALL) from fault
    return package.Metrics()


def with_eccv(evaluation: Evaluation, metrics: Any) -> Evaluation:
    """Add the scores to a report; they are about all pictures and captions, whatever the folds.

    Args:
        evaluation: from `score_files`, over COCO's test pictures (`testall`). Captions that the package does not know
            (COCO has a few pictures with more than five) are left out of what is retrieved.
        metrics: from `open_metrics`.

    Raises:
        DataError: ids are missing or not COCO's, or pictures or captions of the ground truth are missing.
    """
    names = evaluation.names
    images = _numbers("picture", names.image_ids, _PICTURE)
    captions = _numbers("caption", names.caption_ids, _CAPTION)
    known = metrics.coco_gts
    _check_complete("pictures", images, known["i2t"])
    _check_complete("captions", captions, known["t2i"])
    one_fold = cut_folds(names.image_of_caption, len(images), 1)
    extra = sum(number not in known["t2i"] for number in captions)
    ((i2t, t2i),) = evaluation.top(_depth(metrics) + extra, one_fold)
    found_captions = {
        images[query]: [captions[row] for row in rows if captions[row] in known["t2i"]]
        for query, rows in zip(i2t.queries.tolist(), i2t.candidates.tolist(), strict=True)
    }
    found_images = {
        captions[query]: [images[row] for row in rows]
        for query, rows in zip(t2i.queries.tolist(), t2i.candidates.tolist(), strict=True)
    }
    scores = eccv_scores(metrics, found_captions, found_images)
    return replace(evaluation, report=replace(evaluation.report, eccv=scores))


def eccv_scores(metrics: Any, i2t: Retrieved, t2i: Retrieved) -> dict[str, dict[str, float]]:
    """Score what was retrieved.

    Args:
        metrics: from `open_metrics`.
        i2t: captions found for each picture, best first, by COCO's numbers.
        t2i: pictures found for each caption, likewise.

    Returns:
        `eccv_map_at_r`, `eccv_rprecision`, `eccv_r1`, `cxc_r1`, `cxc_r5` and `cxc_r10`, each {i2t, t2i} in percent.
    """
    retrieved = {"i2t": i2t, "t2i": t2i}
    with redirect_stderr(io.StringIO()):  # bars of the package
        scores = dict(metrics.eccv_metrics(retrieved, "all"))
        for k in CXC_RECALLS:
            scores[f"cxc_r{k}"] = metrics.cxc_recalls(retrieved, "all", K=k)
    order = ("eccv_map_at_r", "eccv_rprecision", "eccv_r1", *(f"cxc_r{k}" for k in CXC_RECALLS))
    return {
        name: {direction: 100.0 * float(scores[name][direction]) for direction in ("i2t", "t2i")} for name in order
    }


def _depth(metrics: Any) -> int:
    """How many candidates the package looks at: R of the query with the most right ones, or the last recall."""
    most = max(len(right) for side in metrics.eccv_gts.values() for right in side.values())
    return max(most, *CXC_RECALLS)


def _numbers(kind: str, ids: Sequence[str] | None, pattern: re.Pattern[str]) -> list[int]:
    """COCO's numbers from ids, e.g. 391895 from `391895` or `COCO_val2014_000000391895.jpg`."""
    if ids is None:
        raise DataError(f"--eccv needs COCO's {kind} ids, and the data has no {kind} ids", CONVERT)
    numbers = []
    for name in ids:
        match = pattern.fullmatch(name)
        if match is None:
            raise DataError(f"--eccv needs COCO's {kind} ids; {name!r} is none", CONVERT)
        numbers.append(int(match[match.lastindex or 0]))
    return numbers


def _check_complete(kind: str, numbers: Sequence[int], known: Collection[int]) -> None:
    """All of the ground truth must be there, once; other pictures would be distractors that no other result has."""
    found = set(numbers)
    missing = [number for number in known if number not in found]
    if missing:
        raise DataError(
            f"--eccv is about COCO's {len(known):,} test {kind}; {len(missing):,} of them are missing, "
            f"the first is {missing[0]}",
            f"score split testall of COCO; {CONVERT}",
        )
    if len(found) != len(numbers):
        raise DataError(f"--eccv: {len(numbers) - len(found):,} ids of {kind} occur twice", CONVERT)
    if kind == "pictures" and len(found) != len(known):
        other = next(number for number in numbers if number not in known)
        raise DataError(f"--eccv is about COCO's {len(known):,} test {kind}; {other} is not one of them", CONVERT)
