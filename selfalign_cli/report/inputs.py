"""What a report is made from: run folders and documents of `selfalign eval --json`, read with care."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign_cli.errors import DataError
from selfalign_cli.metrics.cutoffs import DIRECTIONS, RECALLS

LOG, BEST = "metrics.jsonl", "best.ckpt"
METRICS = (*(f"{direction}.{name}" for direction in DIRECTIONS for name in RECALLS), "rsum")
LARGEST_DOCUMENT = 1 << 28
"""Bytes of the largest result that is read."""
Line = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        label: what the page calls it.
        folder: where it is.
        train: lines of the log about steps.
        validation: lines of the log about the dev split.
    """

    label: str
    folder: Path
    train: tuple[Line, ...]
    validation: tuple[Line, ...]

    @property
    def checkpoint(self) -> Path | None:
        """The best model, if there is one."""
        path = self.folder / BEST
        return path if path.is_file() else None

    @property
    def best(self) -> Line | None:
        """The validation of largest rsum, the first of equals."""
        return max(self.validation, key=lambda line: float(line["rsum"]), default=None)


@dataclass(frozen=True)
class Result:
    """Recalls of one model or ensemble.

    Attributes:
        label: what the page calls it.
        split, images, captions, folds: about what.
        scores: by the names of `METRICS`, in percent.
        intervals: 95 % intervals by the same names, those that are known.
        members: how many models were averaged.
        signature: of the result.
    """

    label: str
    split: str
    images: int
    captions: int
    folds: int
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    members: int
    signature: str


def read_inputs(paths: Sequence[Path], notify: Callable[[str], None]) -> tuple[list[Run], list[Result]]:
    """Read run folders and results, whichever each path is.

    Raises:
        DataError: nothing was named, or a path is neither.
    """
    runs, results = [], []
    labels = _labels(paths)
    for path, label in zip(paths, labels, strict=True):
        if path.is_dir():
            runs.append(read_run(path, label))
            continue
        document = _document(path)
        if document.get("format") == "selfalign-demo":
            notify(f"{path} is the table of a demo, which its runs and results say in full: left out")
            continue
        results.append(result_of(document, label, str(path)))
    if not runs and not results:
        raise DataError("there is nothing to report on", "selfalign report RUN… [EVAL.json…] --out REPORT.html")
    return runs, results


def read_run(folder: Path, label: str) -> Run:
    """Read the log of a run; an unfinished last line, as a kill leaves it, does not count.

    Raises:
        DataError: there is no log, or a line of it is damaged.
    """
    path = folder / LOG
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as fault:
        raise DataError(
            f"{folder} is no run folder: no {LOG} in it", "name the run.dir of a recipe, e.g. runs/vsrn_f30k"
        ) from fault
    found = [_line(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], start=1) if line]
    return Run(
        label,
        folder,
        tuple(line for line in found if line["kind"] == "train"),
        tuple(line for line in found if line["kind"] == "validation" and "rsum" in line),
    )


def result_of(document: Line, label: str, where: str) -> Result:
    """A document of `selfalign eval --json`.

    Raises:
        DataError: it is none, or its numbers are impossible.
    """
    try:
        scores = {name: _percent(_value(document, name)) for name in METRICS[:-1]}
        scores["rsum"] = float(document["rsum"])
        intervals = {name: (float(low), float(high)) for name, (low, high) in document.get("intervals", {}).items()}
        return Result(
            label,
            str(document["split"]),
            int(document["images"]),
            int(document["captions"]),
            int(document["folds"]),
            scores,
            {name: ends for name, ends in intervals.items() if name in METRICS and all(map(math.isfinite, ends))},
            max(1, len(document.get("checkpoints", []))),
            str(document["signature"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise DataError(
            f"{where} is no result of selfalign eval: {type(fault).__name__} {fault}",
            f"selfalign eval CKPT --json > {Path(where).name}",
        ) from fault


def _document(path: Path) -> Line:
    try:
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise DataError(f"{path} is far too large for a result")
        document = json.loads(path.read_bytes())
    except FileNotFoundError as fault:
        raise DataError(
            f"there is no {path}", "expected a run folder, or what selfalign eval --json printed"
        ) from fault
    except (OSError, ValueError, RecursionError) as fault:
        raise DataError(
            f"{path} is not JSON: {fault}", "expected a run folder, or what selfalign eval --json printed"
        ) from fault
    if not isinstance(document, dict):
        raise DataError(f"{path} holds a {type(document).__name__}; expected what selfalign eval --json printed")
    return document


def _line(text: bytes, where: str) -> Line:
    try:
        line = json.loads(text)
        if not all(isinstance(line[name], kind) for name, kind in (("kind", str), ("step", int), ("epoch", int))):
            raise ValueError("kind, step or epoch of another type")
        numbers = {name: float(value) for name, value in line.items() if name != "kind"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise DataError(f"{where} is damaged: {fault}", "leave this run out, or restore its log") from fault
    return {**numbers, "kind": line["kind"], "step": line["step"], "epoch": line["epoch"]}


def _value(document: Line, name: str) -> object:
    direction, _, recall = name.partition(".")
    return document[direction][recall]


def _percent(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 100:
        raise ValueError(f"a recall of {number:g} %")
    return number


def _labels(paths: Sequence[Path]) -> list[str]:
    """Names of folders and files; where a kind has two of one name, with the folder above."""
    names = [(path.is_dir(), path.resolve().name if path.is_dir() else path.stem) for path in paths]
    return [
        name[1] if names.count(name) == 1 else f"{path.resolve().parent.name}/{name[1]}"
        for path, name in zip(paths, names, strict=True)
    ]
