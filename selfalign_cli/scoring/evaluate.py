"""`selfalign eval`: checkpoints or embedding files to a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from selfalign_cli import parallel
from selfalign_cli.assembly.checkpoint import hash_of_state
from selfalign_cli.assembly.device import choose_device
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.ranks import check_truth
from selfalign_cli.metrics.recall import Fold, rank_folds
from selfalign_cli.metrics.report import RetrievalReport, make_report, query_hash, signature_of
from selfalign_cli.metrics.top import top_folds
from selfalign_cli.metrics.top_k import Top
from selfalign_cli.scoring.embed import HASH_DIGITS, EncodingOptions, embed_checkpoint, ignore
from selfalign_cli.scoring.embeddings import EmbeddingFile, expect_captions, is_embedding_file, read_embeddings
from selfalign_cli.similarity import Similarity


@dataclass(frozen=True)
class Evaluation:
    """A report, and what it was made from.

    Attributes:
        report: the numbers.
        parts: the vectors of each model, all about the same queries.
        folds: what was ranked separately.
        weights: of the models, None for equal ones.
        similarity: how pairs are scored.
        device: where.
    """

    report: RetrievalReport
    parts: Sequence[EmbeddingFile]
    folds: Sequence[Fold]
    weights: Sequence[float] | None
    similarity: Similarity
    device: torch.device

    @property
    def names(self) -> EmbeddingFile:
        """The part to take ids and texts from."""
        return self.parts[0]

    def top(self, depth: int, folds: Sequence[Fold] | None = None) -> Iterator[tuple[Top, Top]]:
        """The best candidates of each query, fold by fold; see `top_folds`."""
        return top_folds(
            [part.vectors for part in self.parts],
            folds or self.folds,
            depth=depth,
            weights=self.weights,
            kind=self.similarity,
            device=self.device,
        )


def score_files(
    paths: Sequence[Path],
    options: EncodingOptions | None = None,
    *,
    folds: int = 1,
    weights: Sequence[float] | None = None,
    device: str = "auto",
    written: Sequence[Path] = (),
    notify: Callable[[str], None] = ignore,
) -> Evaluation:
    """Score one checkpoint or embedding file, or an ensemble of several by the mean of their similarities.

    Args:
        paths: checkpoints and embedding files, over the same queries.
        options: how checkpoints are encoded; a split that is named must be that of embedding files too.
        folds: consecutive blocks of pictures that are scored separately and averaged.
        weights: of the models in an ensemble, above 0; None for equal ones.
        device: auto, cpu or cuda.
        written: files that will be written; the features may not be one of them.
        notify: shows messages, about captions that were cut for one.

    Raises:
        DataError: pictures without captions; files about different queries, or scored by different similarities;
            weights that do not fit; options for checkpoints where there are embedding files only.
    """
    options = options or EncodingOptions()
    _check_weights(weights, len(paths))
    if all(map(is_embedding_file, paths)):
        _check_unused(options)
    chosen = choose_device(device)
    with parallel.process_group():
        parts = [
            _read(path, options.split)
            if is_embedding_file(path)
            else embed_checkpoint(path, options, device=chosen, written=written, notify=notify)
            for path in paths
        ]
    for path, part in zip(paths, parts, strict=True):
        _check_ensemble(paths[0], parts[0], path, part)
    return _scored(paths, parts, folds, weights, chosen)


def _scored(
    paths: Sequence[Path],
    parts: Sequence[EmbeddingFile],
    folds: int,
    weights: Sequence[float] | None,
    device: torch.device,
) -> Evaluation:
    """Rank, and make the report."""
    first = parts[0]
    fold_parts, ranks = rank_folds(
        [part.vectors for part in parts],
        first.image_of_caption,
        folds=folds,
        weights=weights,
        kind=_similarity(first),
        device=device,
    )
    name = str(first.attributes.get("split", "embeddings"))
    signature = signature_of(
        split=name,
        images=len(first.images.pooled),
        captions=len(first.captions.pooled),
        folds=folds,
        similarity=_similarity(first),
        weights=_unequal(weights),
        compat=_merged(parts, "compat"),
        recipe=_merged(parts, "recipe"),
        model="+".join(map(_model, parts)),
        data=_merged(parts, "data"),
        batch=_merged(parts, "batch"),
    )
    report = make_report(
        fold_parts,
        ranks,
        split=name,
        signature=signature,
        checkpoints=[str(path) for path in paths],
        queries=_queries(first),
    )
    return Evaluation(report, parts, fold_parts, weights, _similarity(first), device)


def _check_weights(weights: Sequence[float] | None, files: int) -> None:
    """Refuse weights before anything is encoded."""
    if weights is None:
        return
    if len(weights) != files:
        raise DataError(f"{len(weights)} weights for {files} files; expected one weight per file")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise DataError(f"weights {_written(weights)}: expected finite numbers above 0")


def _check_unused(options: EncodingOptions) -> None:
    """Refuse what only encoding reads."""
    values = {"--data": options.data, "--batch-size": options.batch_size, "--compat": options.compat}
    given = [name for name, value in values.items() if value is not None]
    if given:
        raise DataError(
            f"{', '.join(given)}: embedding files are encoded already", "leave it out, or name a checkpoint"
        )


def _read(path: Path, split: str | None) -> EmbeddingFile:
    """The vectors in a file, of the split that was asked for."""
    found = read_embeddings(path)
    expect_captions(path, found)
    try:
        check_truth(found.image_of_caption, len(found.images.pooled), len(found.captions.pooled))
    except DataError as fault:
        raise DataError(f"{path}: {fault.message}", fault.hint) from fault
    known = found.attributes.get("split")
    if split is not None and known is not None and split != known:
        raise DataError(f"{path} holds the split {known}, not {split}", f"selfalign export-embeddings --split {split}")
    return found


def _unequal(weights: Sequence[float] | None) -> str | None:
    """Weights for a signature, where they matter."""
    return None if weights is None or len(set(weights)) == 1 else _written(weights)


def _written(weights: Sequence[float]) -> str:
    return ",".join(f"{weight:g}" for weight in weights)


def _check_ensemble(first_path: Path, first: EmbeddingFile, path: Path, part: EmbeddingFile) -> None:
    """Refuse to add up scores of different things."""
    if not first.image_of_caption.equal(part.image_of_caption) or _queries(first) != _queries(part):
        raise DataError(f"{path} is about other pictures or captions than {first_path}; an ensemble needs the same")
    if _similarity(first) != _similarity(part):
        raise DataError(f"{path} is scored by {_similarity(part)}, {first_path} by {_similarity(first)}")


def _queries(part: EmbeddingFile) -> str | None:
    if part.image_ids is None or part.caption_texts is None:
        return None
    return query_hash(part.image_ids, part.caption_texts, part.image_of_caption.tolist())


def _similarity(part: EmbeddingFile) -> Similarity:
    return "order" if part.attributes.get("similarity") == "order" else "dot"


def _model(part: EmbeddingFile) -> str:
    """Which model a file is from; of vectors by other programs, the hash of the vectors."""
    known = part.attributes.get("model")
    if known is not None:
        return str(known)
    sides = {"image": part.images, "caption": part.captions}
    arrays = {
        f"{name}.{field}": getattr(side, field) for name, side in sides.items() for field in ("pooled", "shared")
    }
    return hash_of_state(arrays)[:HASH_DIGITS]


def _merged(parts: Sequence[EmbeddingFile], key: str) -> str | None:
    """One value for an ensemble: those of its members, equal ones once."""
    known = dict.fromkeys(str(part.attributes[key]) for part in parts if key in part.attributes)
    return "+".join(known) or None
