"""The index folder: immutable segments, and a manifest that says which of them make up the index.

    INDEX/manifest.json        what the index is; replaced as a whole, so a reader sees it before or after a change
    INDEX/segments/NAME/       some thousands of pictures; never changed, removed when no manifest names it any more
        segment.json           counts, the features they come from, and where each array lies in data.bin
        data.bin               arrays, each aligned to 64 bytes; see `segment`
    INDEX/dead/NAME-G.npy      (m,) int64 rows of a segment that are no longer in the index, as of generation G
    INDEX/model-HASH.ckpt      the checkpoint that encoded it; none in an index of foreign vectors
    INDEX/hnsw-HASH.faiss      the graph for `--ann`
    INDEX/lock                 held by the one process that changes the index
    INDEX/serve.json           address, process and index identity of a running `selfalign serve`; see `running`

What is finished before the manifest names it does not count: a process killed at any instant leaves the index as it
was, and the same command goes on with the segments that are complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from selfalign_cli.data.atomic import replacing, writing_failed
from selfalign_cli.errors import DataError, RunError

FORMAT: Literal["selfalign-index"] = "selfalign-index"
VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
SEGMENTS = "segments"
DEAD = "dead"


class _Stored(BaseModel):
    """What is stored as JSON: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentEntry(_Stored):
    """A segment of the index.

    Attributes:
        name: its folder below `segments/`.
        pictures, captions: how many it stores, dead ones included.
        dead: file below `dead/` with the rows that do not count any more; None where all do.
        removed: how many those are.
    """

    name: str = Field(pattern=r"^[\w-]+$")
    pictures: NonNegativeInt
    captions: NonNegativeInt
    dead: str | None = Field(default=None, pattern=r"^[\w-]+\.npy$")
    removed: NonNegativeInt = 0


class ModelFacts(_Stored):
    """Which model encoded the index; see `assembly.identity.Identity`.

    Attributes:
        file: the copy of the checkpoint in the folder.
        source: path of the checkpoint that was named.
    """

    weights: str
    recipe: str
    vocabulary: str
    compat: str
    file: str = Field(pattern=r"^model-[0-9a-f]+\.ckpt$")
    source: str


class GraphFacts(_Stored):
    """The graph for approximate search.

    Attributes:
        file: in the folder.
        segments: names of the segments whose pictures it holds, in order; and how many those are.
        recall: share of the exact top 10 that it found, in a sample, rescored.
        sample: queries of that sample.
    """

    file: str = Field(pattern=r"^hnsw-[0-9a-f]+\.faiss$")
    segments: list[tuple[str, NonNegativeInt]]
    recall: float
    sample: NonNegativeInt


class Manifest(_Stored):
    """What an index is.

    Attributes:
        generation: counts the changes, from 1.
        similarity: how pairs are scored.
        views, width, context: V, D and C of a picture.
        model: None for foreign vectors.
        vectors_of: for foreign vectors, what their file says about itself.
        extractor: what made the regions; None where it is not known.
        pictures: folder below which the file names are; empty where it is not known.
        segments: in row order.
        graph: None without `--ann`.
    """

    format: Literal["selfalign-index"] = FORMAT
    version: Literal[1] = VERSION
    generation: PositiveInt
    similarity: Literal["dot", "order"]
    views: PositiveInt
    width: PositiveInt
    context: NonNegativeInt
    model: ModelFacts | None
    vectors_of: dict[str, Any] = Field(default_factory=dict)
    extractor: dict[str, Any] | None = None
    pictures: str = ""
    segments: list[SegmentEntry]
    graph: GraphFacts | None = None

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that change with every change of the index."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index.

    Raises:
        DataError: the folder is missing, is no index, its indexing was not finished, or the manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError as fault:
        if (folder / SEGMENTS).is_dir():
            raise DataError(
                f"{folder} is not finished: indexing was stopped", "repeat the command, it goes on"
            ) from fault
        kind = "is no index" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {kind}", "make one: selfalign index CKPT --data F.h5 --out INDEX") from fault
    except OSError as fault:
        raise DataError(
            f"{folder} is no index: {fault.strerror}", "expected the folder that selfalign index made"
        ) from fault
    manifest: Manifest = parsed(Manifest, text, path)
    return manifest


def parsed(kind: type[Any], text: bytes, path: Path) -> Any:
    """Read JSON of a known form.

    Raises:
        DataError: damaged, or of another version.
    """
    try:
        return kind.model_validate(json.loads(text))
    except (ValueError, RecursionError) as fault:  # pydantic's ValidationError is a ValueError
        if isinstance(fault, ValidationError):
            first = fault.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            reason = str(fault)
        raise DataError(
            f"{path} is damaged, or of another release: {reason}", "copy the index again, or make it again"
        ) from fault


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the one that counts."""
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Be the only process that changes an index; the folder is made.

    Raises:
        DataError: the folder cannot be written to.
        RunError: another process is changing it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SEGMENTS).mkdir(exist_ok=True)
        (folder / DEAD).mkdir(exist_ok=True)
        lock = open(folder / "lock", "ab")  # noqa: SIM115 - closed below
    except OSError as fault:
        raise writing_failed(folder, fault) from fault
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, even if it is killed
        except OSError as fault:
            raise RunError(f"another process is changing {folder}", "wait for it to end") from fault
        yield


def remove_unnamed(folder: Path, manifest: Manifest, *, keep: str = "\0") -> None:
    """Remove what no manifest names: what was stopped, replaced or merged.

    Args:
        folder: the index.
        manifest: what counts.
        keep: prefix of segment names to keep: those of the work at hand.
    """
    named = {entry.name for entry in manifest.segments}
    for path in (folder / SEGMENTS).iterdir():
        if path.name not in named and not path.name.startswith(keep):
            shutil.rmtree(path, ignore_errors=True)
    files = {DEAD + "/" + entry.dead for entry in manifest.segments if entry.dead}
    files |= {part.file for part in (manifest.model, manifest.graph) if part is not None}
    for pattern in (
        "dead/*.npy",
        "dead/.*.tmp",
        "model-*.ckpt",
        "hnsw-*.faiss",
        ".model-*.tmp",
        ".hnsw-*.tmp",
        ".manifest*.tmp",
    ):
        for path in folder.glob(pattern):
            if str(path.relative_to(folder)) not in files:
                with suppress(OSError):
                    path.unlink()


def sync_folder(path: Path) -> None:
    """Wait until a folder's list of names is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
