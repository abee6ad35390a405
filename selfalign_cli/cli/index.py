"""`selfalign index`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import (
    BatchSizeOpt,
    CompatOpt,
    DataOpt,
    DeviceOpt,
    JsonOpt,
    OverwriteOpt,
    Preset,
    newest_checkpoint,
)
from selfalign_cli.cli.progress import progress
from selfalign_cli.errors import RecipeError
from selfalign_cli.launch import is_first

if TYPE_CHECKING:
    from selfalign_cli.search.build import Changes, Mode
    from selfalign_cli.search.sources import Source

SourceArg = Annotated[
    Path | None,
    typer.Argument(
        metavar="CKPT",
        help="Checkpoint, or an embedding file of any program (.h5, .npz). Default: the newest best.ckpt under runs/.",
        show_default=False,
    ),
]
OutOpt = Annotated[
    Path | None, typer.Option("--out", metavar="INDEX", help="Folder of the index.", show_default=False)
]
ToOpt = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="ADDRESS",
        help="An engine in place of a folder: milvus:FILE.db, milvus:http://HOST:PORT or postgresql://USER@HOST/DB; "
        "#NAME behind it names a collection.",
        show_default=False,
    ),
]
IndexSplitOpt = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Split of the feature file; default: all.", show_default=False),
]
PicturesOpt = Annotated[
    Path | None,
    typer.Option("--pictures", metavar="FOLDER", help="Folder below which the picture files are.", show_default=False),
]
UpdateOpt = Annotated[
    bool, typer.Option("--update", help="Bring an index up to date: what is new, changed or gone, and nothing else.")
]
AddOpt = Annotated[bool, typer.Option("--add", help="Like --update, but pictures that are not in FILE stay.")]


AnnOpt = Annotated[
    bool, typer.Option("--ann", help="Search by a graph, which is faster on large collections and may miss some.")
]


def index(
    source: SourceArg = None,
    out: OutOpt = None,
    to: ToOpt = None,
    data: DataOpt = None,
    split: IndexSplitOpt = None,
    pictures: PicturesOpt = None,
    update: UpdateOpt = False,
    add: AddOpt = False,
    ann: AnnOpt = False,
    batch_size: BatchSizeOpt = None,
    compat: CompatOpt = None,
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
    overwrite: OverwriteOpt = False,
) -> None:
    """Encode a collection of pictures once, into a folder that can be searched, and that grows and forgets.

    Killed at any instant, it opens as before; the same command goes on where it was.

    Example: selfalign index runs/mine/best.ckpt --data data/mine.h5 --out INDEX
    """
    if update and add:
        raise RecipeError("--update and --add exclude each other: one removes what is gone, the other does not")
    if (out is None) == (to is None):
        raise RecipeError("expected --out INDEX, a folder, or --to ADDRESS, an engine")
    taken = source or newest_checkpoint()
    from selfalign_cli import parallel

    with parallel.process_group():
        opened = _opened(taken, data, split, batch_size, compat, device)
        mode: Mode = "update" if update else "add" if add else "new"
        if to is not None:
            changes = _pushed(opened, to, mode, pictures, ann, overwrite)
        else:
            assert out is not None
            changes = _built(opened, out, mode, pictures, ann, overwrite)
    if not is_first():
        return
    if as_json:
        show_json({"index": str(out or to), **changes.to_dict()})
        return
    counts = {name: f"{count:,}" for name, count in changes.to_dict().items() if name != "reused" or count}
    names = {"total": "pictures", "reused": "encoded before"}
    show_table(["", ""], [[names.get(name, name), count] for name, count in counts.items()], title=str(out or to))


def _built(source: Source, out: Path, mode: Mode, pictures: Path | None, ann: bool, overwrite: bool) -> Changes:
    from selfalign_cli.search.build import build_index

    return build_index(
        source,
        out,
        mode=mode,
        pictures=pictures,
        ann=ann,
        overwrite=overwrite,
        progress=progress,
        notify=show_message,
    )


def _pushed(source: Source, to: str, mode: Mode, pictures: Path | None, ann: bool, overwrite: bool) -> Changes:
    from selfalign_cli.search.engines.port import open_engine
    from selfalign_cli.search.engines.push import push

    engine = open_engine(to)
    try:
        return push(
            source,
            engine,
            mode=mode,
            pictures=pictures,
            ann=ann,
            overwrite=overwrite,
            progress=progress,
            notify=show_message,
        )
    finally:
        engine.close()


def _opened(
    source: Path, data: Path | None, split: str | None, batch_size: int | None, compat: Preset | None, device: str
) -> Source:
    from selfalign_cli.scoring.embeddings import is_embedding_file
    from selfalign_cli.search.sources import EmbeddingSource, open_feature_source

    if not is_embedding_file(source):
        return open_feature_source(source, data, split, batch_size=batch_size, compat=compat, device=device)
    values = {"--data": data, "--split": split, "--batch-size": batch_size, "--compat": compat}
    given = [name for name, value in values.items() if value is not None]
    if given:
        raise RecipeError(f"{', '.join(given)}: embedding files are encoded already", "leave it out")
    return EmbeddingSource(source)
