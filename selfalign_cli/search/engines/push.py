"""`selfalign index --to ADDRESS`: pictures, encoded in blocks, to an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli import parallel
from selfalign_cli.data.features.origin import require_same_extractor
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.embed import ignore
from selfalign_cli.search.build import Changes, Mode
from selfalign_cli.search.engines.port import Engine, Entry, Facts, check_width
from selfalign_cli.search.segment import Content
from selfalign_cli.search.sources import Rows, Source

BLOCK = 1024
"""Pictures that are encoded and sent together."""


def push(
    source: Source,
    engine: Engine,
    *,
    mode: Mode = "new",
    pictures: Path | None = None,
    ann: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
    notify: Callable[[str], None] = ignore,
) -> Changes:
    """Bring a collection of an engine up to date with a source.

    A collection of the same model is continued: what is there and unchanged is not encoded again, so that the command
    can be repeated after a kill.

    Args:
        source: the pictures.
        engine: where they go; only process 0 of several talks to it.
        mode: "update" also removes what the source does not have.
        pictures: folder of the picture files; None for what the source knows.
        ann: search it by a graph.
        overwrite: make the collection anew.
        progress, notify: show what is going on.

    Raises:
        DataError: another model or extractor, scores by the order measure, vectors wider than the engine holds.
        RunError: the engine went away.
    """
    if source.similarity != "dot":
        raise DataError("engines search by inner product; this model scores by the order measure", "use --out INDEX")
    first = parallel.rank() == 0
    known: dict[str, str] = {}
    if first:
        facts = None if overwrite else engine.facts()
        if facts is not None:
            _require_same(facts, source, engine)
            notify(f"continuing the collection {engine.address}")
            known = dict(engine.known())
    known = parallel.broadcast(known)
    fresh = parallel.broadcast(first and (overwrite or engine.facts() is None))
    counts = {"added": 0, "changed": 0, "unchanged": 0}
    with progress("index: pictures", len(source.ids)) as advance:
        for start in range(0, len(source.ids), BLOCK):
            positions = np.arange(start, min(start + BLOCK, len(source.ids)))
            wanted = _changed(source, positions, known, counts)
            advance(len(positions) - len(wanted))
            if not len(wanted):
                continue
            content = source.content(wanted, advance, captions=False)
            if first:
                if fresh:
                    engine.create(_facts(source, content, pictures, engine, ann))
                    fresh = False
                engine.add(_entries(content))
    gone = sorted(set(known) - set(source.ids)) if mode == "update" else []
    if first and gone:
        engine.delete(gone)
    total = engine.count() if first else 0
    return Changes(**counts, removed=len(gone), reused=0, total=total, captions=0)


def _require_same(facts: Facts, source: Source, engine: Engine) -> None:
    own = source.model()
    known = facts.model
    names = ("weights", "recipe", "vocabulary", "compat")
    same = (own is None) == (known is None)
    if own is not None and known is not None:
        same = all(known.get(name) == getattr(own, name) for name in names)
    if not same:
        made = "foreign vectors" if known is None else f"another model ({known.get('source')})"
        raise DataError(
            f"{engine.address} holds vectors of {made}",
            "vectors of two models do not compare: add --overwrite to replace it, or name another collection (#NAME)",
        )
    require_same_extractor(source.extractor, facts.extractor, what=source.name, others=engine.address)


def _changed(source: Source, positions: Rows, known: dict[str, str], counts: dict[str, int]) -> Rows:
    """Those that the engine does not have as they are."""
    digests = [bytes(digest).hex() for digest in source.digests(positions)]
    wanted = []
    for position, digest in zip(positions.tolist(), digests, strict=True):
        before = known.get(source.ids[position])
        kind = "added" if before is None else "unchanged" if before == digest else "changed"
        counts[kind] += 1
        if kind != "unchanged":
            wanted.append(position)
    return np.array(wanted, dtype=np.int64)


def _facts(source: Source, content: Content, pictures: Path | None, engine: Engine, ann: bool) -> Facts:
    _, views, width = content.pictures.pooled.shape
    context = content.pictures.shared.shape[1]
    check_width(engine.address, width + context, engine.widest)
    model = source.model()
    return Facts(
        views=views,
        width=width,
        context=context,
        model=None if model is None else model.model_dump(),
        extractor=source.extractor,
        pictures=source.pictures if pictures is None else str(pictures.resolve()),
        ann=ann,
    )


def _entries(content: Content) -> list[Entry]:
    vectors = content.pictures.concatenated().numpy()
    entries, start = [], 0
    for row, (name, count) in enumerate(zip(content.ids, content.captions_of, strict=True)):
        shown: dict[str, Any] = {
            "file_name": None if content.file_names is None else content.file_names[row],
            "captions": list(content.texts[start : start + count]),
        }
        entries.append(Entry(name, vectors[row], bytes(content.digests[row]).hex(), shown))
        start += count
    return entries
