"""What the API answers: one function for each question, from parameters to a document."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from selfalign_cli.errors import DataError
from selfalign_cli.explain.explanation import explain, leave_outs
from selfalign_cli.search.answer import answer_image, answer_texts
from selfalign_cli.serve.opened import Opened, Served

LONGEST_QUERY = 1000
"""Characters of a query; a caption has a hundred."""
MOST_HITS = 2000
"""The last place that paging reaches."""
CAPTIONS_FOUND = 5
Parameters = Mapping[str, str]
Document = dict[str, Any]


def about(opened: Opened, asked: Parameters) -> Document:
    """What is served."""
    index = opened.index
    return {
        "index": str(index.folder),
        "identity": index.identity,
        "pictures": len(index),
        "captions": index.caption_count,
        "model": index.manifest.model is not None,
        "longest_query": LONGEST_QUERY,
    }


def search(opened: Opened, asked: Parameters) -> Document:
    """Pictures for a text `q`, or like the picture `image`; `k` of them, after the first `from`.

    The document is that of `selfalign search --json`, with what it says of the query once more at the top, the score
    `unrelated` that captions of other pictures rarely exceed, and how long it took.
    """
    began = time.perf_counter()
    k, first = number(asked, "k", 10, 1, 200), number(asked, "from", 0, 0, MOST_HITS)
    depth = min(first + k, MOST_HITS)
    if ("q" in asked) == ("image" in asked):
        raise DataError("expected one of q=TEXT and image=ID")
    if "q" in asked:
        document = answer_texts(opened.index, [asked_text(asked["q"])], depth, device=opened.device)
    else:
        document = answer_image(opened.index, asked["image"], depth)
    query = document["queries"][0]
    query["hits"] = query["hits"][first:]
    level = None
    if "q" in asked:
        level = opened.unrelated_level([hit["row"] for hit in query["hits"]])
    return {
        **document,
        **query,
        "identity": opened.index.identity,
        "from": first,
        "of": min(len(opened.index), MOST_HITS),
        "unrelated": level,
        "milliseconds": round(1000 * (time.perf_counter() - began), 1),
    }


def picture(opened: Opened, asked: Parameters) -> Document:
    """What is known of the picture in `row`, and captions found for it."""
    row = row_asked(asked)
    found = opened.index.picture(row)
    told = opened.index.search_captions(opened.index.vectors(row), CAPTIONS_FOUND)
    return {
        "row": row,
        "id": found.id,
        "file_name": found.file_name,
        "size": None if found.size is None else list(found.size),
        "boxes": None if found.boxes is None else found.boxes.tolist(),
        "captions": found.captions,
        "found_captions": [
            {"text": opened.index.caption(caption).text, "score": score}
            for caption, score in zip(told.candidates[0].tolist(), told.scores[0].tolist(), strict=True)
        ],
        "shown": opened.picture_path(row) is not None,
        "identity": opened.index.identity,
    }


def explanation(opened: Opened, asked: Parameters) -> Document:
    """Why the picture in `row` and the text `q` have their score, without the words at the places in `off`."""
    row, text = row_asked(asked), asked_text(asked.get("q", ""))
    try:
        off = [int(place) for place in asked["off"].split(",")] if asked.get("off") else []
    except ValueError as fault:
        raise DataError("off: expected places of words with commas between, e.g. 0,3") from fault
    file, place = opened.feature_row(row)
    retriever = opened.index.retriever(opened.device)
    return {
        **explain(retriever, leave_outs(retriever, file, place), text, off=off).to_json(),
        "row": row,
        "identity": opened.index.identity,
    }


QUESTIONS: dict[str, Callable[[Opened, Parameters], Document]] = {
    "about": about,
    "search": search,
    "picture": picture,
    "explain": explanation,
}


class ServedIndex:
    """An index folder as the application asks it.

    Args:
        served: the folder.
    """

    def __init__(self, served: Served) -> None:
        self.served = served

    def ask(self, question: str, asked: Parameters) -> Document:
        """Answer a question of `QUESTIONS`."""
        return QUESTIONS[question](self.served.now(), asked)

    def picture_path(self, row: int) -> Path | None:
        """The file of a picture, or None."""
        return self.served.now().picture_path(row)


def asked_text(text: str) -> str:
    """A query that is neither empty nor far too long."""
    if not text.strip():
        raise DataError("the query is empty")
    if len(text) > LONGEST_QUERY:
        raise DataError(f"the query has {len(text):,} characters; expected {LONGEST_QUERY:,} at most")
    return text


def row_asked(asked: Parameters) -> int:
    """The row that a question is about."""
    return number(asked, "row", None, 0, 1 << 40)


def number(asked: Parameters, name: str, default: int | None, least: int, most: int) -> int:
    """A whole number of a question."""
    text = asked.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        raise DataError(f"{name}: expected a whole number from {least} to {most}")
    found = int(text)
    if not least <= found <= most:
        raise DataError(f"{name} is {found}; expected {least} to {most}")
    return found
