"""`selfalign search`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import DeviceOpt, JsonOpt
from selfalign_cli.errors import RecipeError

CAPTION_WIDTH = 60

IndexArg = Annotated[
    str,
    typer.Argument(metavar="INDEX", help="Folder, or address of an engine, of selfalign index.", show_default=False),
]
SearchAnnOpt = Annotated[bool, typer.Option("--ann", help="Ask the graph, which is faster and may miss some.")]
ModelOpt = Annotated[
    Path | None,
    typer.Option("--model", metavar="CKPT", help="With an engine: where the checkpoint is now.", show_default=False),
]
TextsArg = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="What to look for; several are answered one by one.")
]
CountOpt = Annotated[int, typer.Option("-k", min=1, help="Pictures to find.")]
ImageOpt = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="ID", help="Find pictures like this one, and captions for it.", show_default=False
    ),
]
QueriesOpt = Annotated[
    Path | None,
    typer.Option("--queries", metavar="FILE", help="Text file with a query a line; - for stdin.", show_default=False),
]


def search(
    index: IndexArg,
    texts: TextsArg = None,
    k: CountOpt = 10,
    image: ImageOpt = None,
    queries: QueriesOpt = None,
    ann: SearchAnnOpt = False,
    model: ModelOpt = None,
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
) -> None:
    """Find the pictures of an index that fit a text best, exactly.

    Example: selfalign search INDEX "a dog in snow" -k 5
    """
    if sum((bool(texts), image is not None, queries is not None)) != 1:
        raise RecipeError('expected one of TEXT, --image ID and --queries FILE, e.g. selfalign search INDEX "a dog"')
    asked = (texts or []) if queries is None else _read(queries)
    document = _answered(index, asked, image, k, model, device, ann)
    if as_json:
        show_json(document)
        return
    for answer in document["queries"]:
        _show(answer)


def _read(queries: Path) -> list[str]:
    from selfalign_cli.search.queries import non_empty, read_queries

    return non_empty(sys.stdin.read(), "stdin") if str(queries) == "-" else read_queries(queries)


def _answered(
    index: str, texts: list[str], image: str | None, k: int, model: Path | None, device: str, ann: bool
) -> dict[str, Any]:
    """By a server of the index that is running, which has the model loaded; else here."""
    from selfalign_cli.search.queries import check_query, is_engine_address
    from selfalign_cli.search.running import asked

    for text in texts:
        check_query(text)
    if is_engine_address(index):
        from selfalign_cli.search.engines.ask import answer_engine

        return answer_engine(index, texts, image, k, model=model, device=device)
    if model is not None:
        raise RecipeError("--model is for engines: an index folder holds its model")
    document = None if ann else asked(Path(index), texts, image, k)
    if document is not None:
        return document
    from selfalign_cli.search.answer import answer_image, answer_texts
    from selfalign_cli.search.index import Index

    opened = Index.open(index)
    find = None
    if ann:
        from selfalign_cli.search.graph import Graph

        find = Graph.open(opened).search
    if image is not None:
        return answer_image(opened, image, k, find=find, exact=not ann)
    return answer_texts(opened, texts, k, device=device, find=find, exact=not ann)


def _show(answer: dict[str, Any]) -> None:
    if answer["unknown_words"]:
        show_message(f"unknown to the model: {', '.join(answer['unknown_words'])}")
    rows = [
        [str(rank), hit["id"], f"{hit['score']:.4f}", _cut(hit["captions"][0] if hit["captions"] else "")]
        for rank, hit in enumerate(answer["hits"], start=1)
    ]
    title = answer["query"] or f"pictures like {answer['image']}"
    show_table(["", "picture", "score", "a caption of it"], rows, title=title)
    if answer.get("captions"):
        rows = [
            [str(rank), _cut(found["text"]), f"{found['score']:.4f}", found["id"]]
            for rank, found in enumerate(answer["captions"], start=1)
        ]
        show_table(["", "caption", "score", "of"], rows, title=f"captions for {answer['image']}")


def _cut(text: str) -> str:
    return text if len(text) <= CAPTION_WIDTH else text[: CAPTION_WIDTH - 1] + "…"
