"""Questions to an index and their answers, in the JSON form that `search --json` prints and `serve` returns.

{"index", "exact", "queries": [{"query", "unknown_words": […], "hits": [HIT…]}…]}
HIT: {"id", "row", "score", "file_name", "captions": […]}; a picture as query has {"image": ID, "query": null} and
beside its hits, which leave out itself, "captions": [{"text", "id", "score"}…], the captions found for it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.top_k import Top
from selfalign_cli.search.index import Index
from selfalign_cli.search.queries import check_query

Document = dict[str, Any]
Find = Callable[[RetrievalVectors, int], Top]
"""(queries, k) → the best rows: `Index.search`, or one that is faster and may miss some."""


def answer_texts(
    index: Index, texts: Sequence[str], k: int, *, device: str = "auto", find: Find | None = None, exact: bool = True
) -> Document:
    """Find pictures for texts.

    Args:
        index: where.
        texts: what to look for.
        k: how many pictures for each.
        device: where texts are encoded.
        find: in place of the exact search.
        exact: what the document says of it.

    Raises:
        DataError: an empty or overlong text, or an index without a model.
    """
    for text in texts:
        check_query(text)
    retriever = index.retriever(device)
    top = (find or index.search)(retriever.encode_texts(texts), k)
    queries = [
        {"query": text, "unknown_words": retriever.unknown_words(text), "hits": hits_of(index, rows, scores)}
        for text, rows, scores in zip(texts, top.candidates.tolist(), top.scores.tolist(), strict=True)
    ]
    return {"index": str(index.folder), "exact": exact, "queries": queries}


def answer_image(index: Index, picture_id: str, k: int, *, find: Find | None = None, exact: bool = True) -> Document:
    """Find pictures like one of the index, and captions for it.

    Raises:
        DataError: there is no such picture.
    """
    row = index.row_of(picture_id)
    vectors = index.vectors(row)
    top = (find or index.search)(vectors, k + 1)
    pairs = zip(top.candidates[0].tolist(), top.scores[0].tolist(), strict=True)
    others = [(found, score) for found, score in pairs if found != row][:k]
    told = index.search_captions(vectors, k)
    captions = [
        {"text": found.text, "id": index.picture(found.picture).id, "score": score}
        for found, score in (
            (index.caption(number), score)
            for number, score in zip(told.candidates[0].tolist(), told.scores[0].tolist(), strict=True)
        )
    ]
    hits = hits_of(index, [found for found, _ in others], [score for _, score in others])
    query = {"query": None, "image": picture_id, "unknown_words": [], "hits": hits, "captions": captions}
    return {"index": str(index.folder), "exact": exact, "queries": [query]}


def hits_of(index: Index, rows: Sequence[int], scores: Sequence[float]) -> list[Document]:
    """What is shown of the pictures that were found."""
    hits = []
    for row, score in zip(rows, scores, strict=True):
        found = index.picture(row)
        shown = {"id": found.id, "row": row, "score": score, "file_name": found.file_name}
        hits.append({**shown, "captions": found.captions})
    return hits
