"""What `eval` writes about single queries: a file of details, and TREC run and qrels files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from selfalign_cli.data.atomic import replacing
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.top_k import Top
from selfalign_cli.scoring.evaluate import Evaluation

TAG = "selfalign"
TREC_FILES = ("i2t.run", "t2i.run", "i2t.qrels", "t2i.qrels")
_ESCAPED = re.compile(r"[\s%]")


def write_details(path: Path, evaluation: Evaluation) -> None:
    """Write one JSON line per query, pictures first; the file is replaced only by a complete one.

    A line: `direction` (i2t or t2i), `row`, `id` and, of captions, `text` of the query; its `rank` from 1 (within its
    fold); `best`, what is ranked first, with its `score` (a wrong one when it ties with the right one);
    `true`, the right ones. Ids and texts are null where the file has none; pictures have a `file_name` where it has
    those.

    Args:
        path: the file to write.
        evaluation: from `score_files`.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for line in _details(evaluation):
            stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _details(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    ranks, names = evaluation.report.ranks, evaluation.names
    truth = ranks.image_of_caption.tolist()
    captions_of: list[list[int]] = [[] for _ in range(len(ranks.i2t_rank))]
    for row, image in enumerate(truth):
        captions_of[image].append(row)

    def picture(row: int) -> dict[str, Any]:
        named = {} if names.file_names is None else {"file_name": names.file_names[row]}
        return {"row": row, "id": None if names.image_ids is None else names.image_ids[row], **named}

    def caption(row: int) -> dict[str, Any]:
        ids, texts = names.caption_ids, names.caption_texts
        return {"row": row, "id": None if ids is None else ids[row], "text": None if texts is None else texts[row]}

    i2t = zip(ranks.i2t_rank.tolist(), ranks.i2t_top1.tolist(), ranks.i2t_score.tolist(), strict=True)
    for row, (rank, best, score) in enumerate(i2t):
        first = {**caption(best), "score": score}
        right = [caption(own) for own in captions_of[row]]
        yield {"direction": "i2t", **picture(row), "rank": rank + 1, "best": first, "true": right}
    t2i = zip(ranks.t2i_rank.tolist(), ranks.t2i_top1.tolist(), ranks.t2i_score.tolist(), strict=True)
    for row, (rank, best, score) in enumerate(t2i):
        first = {**picture(best), "score": score}
        yield {"direction": "t2i", **caption(row), "rank": rank + 1, "best": first, "true": [picture(truth[row])]}


def write_trec(folder: Path, evaluation: Evaluation, *, depth: int) -> None:
    """Write `i2t.run`, `t2i.run`, `i2t.qrels` and `t2i.qrels`, for trec_eval and its relatives.

    Pictures and captions go by their ids, captions without ids by their row. White space and % in an id become %XX.
    Of equal scores, wrong candidates are ranked before right ones. With folds a run names candidates of the same fold.

    Args:
        folder: made when it is not there.
        evaluation: from `score_files`.
        depth: candidates per query.

    Raises:
        DataError: an id is empty or occurs twice, so that lines would be about several pictures or captions.
    """
    names = evaluation.names
    images = _trec_names("picture", names.image_ids, len(names.images.pooled))
    captions = _trec_names("caption", names.caption_ids, len(names.captions.pooled))
    with ExitStack() as stack:
        runs_i2t, runs_t2i, right_i2t, right_t2i = (
            stack.enter_context(stack.enter_context(replacing(folder / name)).open("w", encoding="utf-8"))
            for name in TREC_FILES
        )
        for i2t, t2i in evaluation.top(depth):
            _write_run(runs_i2t, i2t, images, captions)
            _write_run(runs_t2i, t2i, captions, images)
        for row, image in enumerate(names.image_of_caption.tolist()):
            right_i2t.write(f"{images[image]} 0 {captions[row]} 1\n")
            right_t2i.write(f"{captions[row]} 0 {images[image]} 1\n")


def _write_run(stream: TextIO, top: Top, queries: Sequence[str], candidates: Sequence[str]) -> None:
    """Lines `query Q0 candidate rank score tag`; nine digits distinguish all float32 numbers."""
    found = zip(top.queries.tolist(), top.candidates, top.scores, strict=True)
    for query, rows, scores in found:
        pairs = zip(rows.tolist(), scores.tolist(), strict=True)
        for rank, (row, score) in enumerate(pairs, start=1):
            stream.write(f"{queries[query]} Q0 {candidates[row]} {rank} {score:.9g} {TAG}\n")


def _trec_names(kind: str, ids: Sequence[str] | None, count: int) -> list[str]:
    """Names without white space, one per row and no two alike."""
    if ids is None:
        return [str(row) for row in range(count)]
    for name, times in Counter(ids).items():
        if times > 1 or not name:
            found = f"the id {name!r} occurs {times:,} times" if name else "there is an empty id"
            raise DataError(f"{kind}s: {found}; TREC files need {kind} ids that are all different", "leave out --trec")
    return [_ESCAPED.sub(_percent, name) for name in ids]


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
