"""`selfalign index`: pictures → segments → a manifest that names them. Nothing counts before it is named.

The work is cut into segments that are encoded one after the other. Their names tell the work they belong to, so the
same command finds what an earlier one finished, whenever that was killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from selfalign_cli import parallel
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.features.origin import require_same_extractor
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.embed import ignore
from selfalign_cli.search import layout
from selfalign_cli.search.graph import add_graph, require_faiss
from selfalign_cli.search.index import Index
from selfalign_cli.search.layout import MANIFEST, SEGMENTS, GraphFacts, Manifest, SegmentEntry
from selfalign_cli.search.segment import id_hash, read_facts, write_segment
from selfalign_cli.search.sources import Rows, Source

SEGMENT_ROWS = 4096
"""Pictures of a segment: what is encoded again after a kill, and held in memory."""

Mode = Literal["new", "update", "add"]


@dataclass(frozen=True)
class Changes:
    """What indexing did, in pictures.

    Attributes:
        reused: of those added or changed, that an earlier run had encoded before it was stopped.
        total: that the index holds now.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    reused: int
    total: int
    captions: int

    def to_dict(self) -> dict[str, int]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        positions: pictures of the source to encode.
        dead: segment name → rows that do not count any more.
        counts: added, changed, removed, unchanged.
        prefix: of the names of the new segments.
        finished: those of them that are there already.
    """

    positions: Rows
    dead: dict[str, Rows]
    counts: tuple[int, int, int, int]
    prefix: str
    finished: set[str]


def build_index(
    source: Source,
    out: Path,
    *,
    mode: Mode = "new",
    pictures: Path | None = None,
    ann: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
    notify: Callable[[str], None] = ignore,
) -> Changes:
    """Make an index, or change one.

    Args:
        source: the pictures.
        out: the index folder.
        mode: "new"; "update" makes the index hold exactly the pictures of the source; "add" leaves out none.
        pictures: folder below which picture files are; None for what the source knows, or the index.
        ann: make a graph of it too; an index that has one keeps it, and what comes later is scanned.
        overwrite: replace an existing index; it stays as it is until the new one is complete.
        progress: shows how far it is.
        notify: shows messages.

    Raises:
        DataError: there is an index already, or none to update; it was made by another model or extractor; ids that
            occur twice; numbers that are not finite.
        RunError: another process is changing the index, or the disk is full.
    """
    if ann:
        require_faiss()
    with ExitStack() as stack:
        if parallel.rank() == 0:
            _require_place(out, mode, overwrite)
            stack.enter_context(layout.changing(out))
        before = Index.open(out) if (out / MANIFEST).exists() and parallel.rank() == 0 else None
        if before is not None and mode != "new":
            _require_same(before.manifest, source, out)
        plan = parallel.broadcast(_plan(source, out, before, mode) if parallel.rank() == 0 else None)
        assert plan is not None
        entries = _write(source, out, plan, progress)
        if parallel.rank() != 0:
            return Changes(*plan.counts, reused=0, total=0, captions=0)
        kept = [] if before is None or mode == "new" else with_dead(out, before, plan.dead)
        if entries or plan.dead or mode == "new" or before is None or pictures is not None:
            _commit(source, out, before, [*kept, *entries], pictures)
        layout.remove_unnamed(out, layout.read_manifest(out))
        if ann:
            graph = add_graph(out)
            notify(f"graph: recall {graph.recall:.3f} of the exact top 10, measured on {graph.sample} queries")
        after = Index.open(out)
        if not ann and after.manifest.graph is not None and entries:
            notify("what was added is not in the graph, and is scanned; --ann makes the graph again")
        reused = sum(entry.pictures for entry in entries if entry.name in plan.finished)
        return Changes(*plan.counts, reused=reused, total=len(after), captions=after.caption_count)


def _require_place(out: Path, mode: Mode, overwrite: bool) -> None:
    """Refuse before anything is encoded."""
    there = (out / MANIFEST).exists()
    if mode != "new":
        layout.read_manifest(out)
        return
    if there and not overwrite:
        raise DataError(
            f"{out} holds an index already", "bring it up to date with --update, or add --overwrite to replace it"
        )
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; expected a folder for the index")
    if out.is_dir() and not there and any(out.iterdir()) and not (out / SEGMENTS).is_dir():
        raise DataError(f"{out} holds other files; expected a new or an empty folder for the index")


def _require_same(manifest: Manifest, source: Source, out: Path) -> None:
    """Refuse vectors of another model in one index."""
    known, own = manifest.model, source.model()
    if (known is None) != (own is None):
        kinds = ("vectors of an embedding file", "a checkpoint")
        raise DataError(
            f"{out} was made from {kinds[known is not None]}, {source.name} is not the same kind",
            "make a new index, in another folder",
        )
    if known is not None and own is not None:
        names = ("weights", "recipe", "vocabulary", "compat")
        differing = [name for name in names if getattr(known, name) != getattr(own, name)]
        if differing:
            raise DataError(
                f"{out} was encoded by another model ({known.source}): other {', '.join(differing)}",
                "vectors of two models do not compare: make a new index with --overwrite, or in another folder",
            )
    for name in ("model", "recipe", "compat"):
        one, other = manifest.vectors_of.get(name), source.vectors_of.get(name)
        if one is not None and other is not None and one != other:
            raise DataError(f"{out} holds vectors of the {name} {one}, {source.name} of {other}", "make a new index")
    require_same_extractor(source.extractor, manifest.extractor, what=source.name, others=str(out))


def _plan(source: Source, out: Path, before: Index | None, mode: Mode) -> Plan:
    """Which pictures are new, changed, gone or as they were."""
    generation = 0 if before is None else before.manifest.generation
    if before is None or mode == "new":
        positions: Rows = np.arange(len(source.ids), dtype=np.int64)
        dead: dict[str, Rows] = {}
        counts = (len(positions), 0, 0, 0)
    else:
        positions, dead, counts = _compared(source, before, remove=mode == "update")
    identity = "" if before is None else before.identity
    job = json.dumps([source.identity, generation, identity, SEGMENT_ROWS, positions.tolist()])
    prefix = f"{generation + 1:06}-{hashlib.sha256(job.encode()).hexdigest()[:12]}-"
    if before is not None:
        layout.remove_unnamed(out, before.manifest, keep=prefix)
    finished = {path.name for path in (out / SEGMENTS).iterdir() if path.name.startswith(prefix)}
    return Plan(positions, dead, counts, prefix, finished)


def _compared(
    source: Source, before: Index, *, remove: bool
) -> tuple[Rows, dict[str, Rows], tuple[int, int, int, int]]:
    """(positions to encode, dead rows, counts) of a source against an index."""
    hashes = np.array([id_hash(name) for name in source.ids], dtype=np.uint64)
    missing = np.ones(len(hashes), dtype=bool)
    changed = np.zeros(len(hashes), dtype=bool)
    dead: dict[str, Rows] = {}
    removed = 0
    for segment in before.segments:
        positions, rows = located(segment.arrays["id_hash"], segment.arrays["id_rows"], hashes)
        same = [segment.ids[row] == source.ids[position] for position, row in zip(positions, rows, strict=True)]
        living = np.array(same, dtype=bool) & ~np.isin(rows, segment.dead)
        positions, rows = positions[living], rows[living]
        missing[positions] = False
        differs = (source.digests(positions) != segment.arrays["digest"][rows]).any(axis=1)
        changed[positions[differs]] = True
        gone = rows[differs]
        if remove:
            unseen = np.setdiff1d(np.setdiff1d(np.arange(segment.entry.pictures), rows), segment.dead)
            removed += len(unseen)
            gone = np.union1d(gone, unseen)
        if len(gone):
            dead[segment.entry.name] = gone.astype(np.int64)
    todo = np.flatnonzero(missing | changed).astype(np.int64)
    added, altered = int(missing.sum()), int(changed.sum())
    return todo, dead, (added, altered, removed, len(hashes) - added - altered)


def located(sorted_hashes: npt.NDArray[Any], rows: Rows, wanted: npt.NDArray[np.uint64]) -> tuple[Rows, Rows]:
    """Positions among `wanted` whose hash a segment has, and the rows there; all rows where several share a hash."""
    first = np.searchsorted(sorted_hashes, wanted, "left")
    last = np.searchsorted(sorted_hashes, wanted, "right")
    counts = last - first
    positions = np.repeat(np.arange(len(wanted)), counts)
    inside = np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
    return positions, np.asarray(rows)[np.repeat(first, counts) + inside]


def _write(source: Source, out: Path, plan: Plan, progress: Progress) -> list[SegmentEntry]:
    """Encode what is not finished."""
    step = max(source.batch, SEGMENT_ROWS - SEGMENT_ROWS % source.batch)
    entries = []
    with progress("index: pictures", len(plan.positions)) as advance:
        for start in range(0, len(plan.positions), step):
            positions = plan.positions[start : start + step]
            name = f"{plan.prefix}{start // step:06}"
            if name in plan.finished:
                facts = read_facts(out / SEGMENTS / name)
                entries.append(SegmentEntry(name=name, pictures=facts.pictures, captions=facts.captions))
                advance(len(positions))
                continue
            content = source.content(positions, advance)
            if parallel.rank() == 0:
                entries.append(write_segment(out, name, content))
    return entries


def with_dead(out: Path, before: Index, dead: dict[str, Rows]) -> list[SegmentEntry]:
    """The segments of an index with more dead rows; those in which nothing lives are left out."""
    kept = []
    for segment in before.segments:
        entry = segment.entry
        rows = np.union1d(segment.dead, dead.get(entry.name, np.empty(0, np.int64)))
        if len(rows) == entry.pictures:
            continue
        if entry.name in dead:
            file = f"{entry.name}-{before.manifest.generation + 1:06}.npy"
            with replacing(out / layout.DEAD / file) as temporary, open(temporary, "wb") as stream:
                np.save(stream, rows, allow_pickle=False)
            entry = entry.model_copy(update={"dead": file, "removed": len(rows)})
        kept.append(entry)
    return kept


def _commit(
    source: Source, out: Path, before: Index | None, entries: Sequence[SegmentEntry], pictures: Path | None
) -> None:
    """Name the segments in the manifest: from here on they are the index."""
    model = source.model()
    if model is not None and not (out / model.file).exists():
        source.save_model(out / model.file)
    views, width, context = _shape(out, entries, before)
    known = "" if before is None else before.manifest.pictures
    manifest = Manifest(
        generation=1 if before is None else before.manifest.generation + 1,
        similarity=source.similarity,
        views=views,
        width=width,
        context=context,
        model=model,
        vectors_of=source.vectors_of,
        extractor=source.extractor or (before.manifest.extractor if before is not None else None),
        pictures=str(pictures.resolve()) if pictures is not None else source.pictures or known,
        segments=list(entries),
        graph=_kept_graph(before, entries),
    )
    layout.write_manifest(out, manifest)


def _kept_graph(before: Index | None, entries: Sequence[SegmentEntry]) -> GraphFacts | None:
    """The graph, as long as it holds anything of the index."""
    graph = None if before is None else before.manifest.graph
    names = {entry.name for entry in entries}
    return graph if graph is not None and any(name in names for name, _ in graph.segments) else None


def _shape(out: Path, entries: Sequence[SegmentEntry], before: Index | None) -> tuple[int, int, int]:
    """V, D and C, the same in all segments."""
    shapes = {
        (*tables["pictures.views.f32"]["shape"][1:], tables["pictures.shared.f32"]["shape"][1])
        for tables in (read_facts(out / SEGMENTS / entry.name).arrays for entry in entries)
    }
    if not shapes and before is not None:
        return before.manifest.views, before.manifest.width, before.manifest.context
    if len(shapes) != 1:
        raise DataError(f"vectors of different shapes (views, width, context): {sorted(shapes)}", "make a new index")
    (shape,) = shapes
    return int(shape[0]), int(shape[1]), int(shape[2])
