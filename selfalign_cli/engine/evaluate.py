"""`selfalign eval`: checkpoints or embedding files to a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from selfalign_cli.engine.assemble import choose_device
from selfalign_cli.engine.embed import embed_checkpoint
from selfalign_cli.engine.embeddings import EmbeddingFile, is_embedding_file, read_embeddings
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.recall import rank_folds
from selfalign_cli.metrics.report import RetrievalReport, make_report, query_hash, signature_of
from selfalign_cli.recipe.compat import Preset
from selfalign_cli.similarity import Similarity


def evaluate_files(
    paths: Sequence[Path],
    *,
    data: Path | None = None,
    split: str = "test",
    folds: int = 1,
    batch_size: int | None = None,
    compat: Preset | None = None,
    weights: Sequence[float] | None = None,
    device: str = "auto",
) -> RetrievalReport:
    """Score one checkpoint or embedding file, or an ensemble of several by the mean of their similarities.

    Args:
        paths: checkpoints and embedding files, over the same queries.
        data: feature file for the checkpoints; None for the one each was trained on.
        split: split for the checkpoints.
        folds: consecutive blocks of pictures that are scored apart and averaged.
        batch_size: rows encoded at once; None for the recipe's.
        compat: preset to score checkpoints under; None for their own.
        weights: of the models in an ensemble; None for equal ones.
        device: auto, cpu or cuda.

    Raises:
        DataError: files about different queries, or scored by different similarities.
    """
    place = choose_device(device)
    parts = [
        read_embeddings(path)
        if is_embedding_file(path)
        else embed_checkpoint(path, data=data, split=split, batch_size=batch_size, compat=compat, device=place)
        for path in paths
    ]
    for path, part in zip(paths, parts, strict=True):
        _check_ensemble(paths[0], parts[0], path, part)
    first = parts[0]
    fold_parts, ranks = rank_folds(
        [part.model for part in parts],
        first.image_of_caption,
        folds=folds,
        weights=weights,
        kind=_similarity(first),
        device=place,
    )
    name = str(first.attributes.get("split", "embeddings"))
    signature = signature_of(
        split=name,
        images=len(first.images.pooled),
        captions=len(first.captions.pooled),
        folds=folds,
        similarity=_similarity(first),
        **{key: _joined(parts, key) for key in ("compat", "recipe", "data")},
        batch=_joined(parts, "batch"),
    )
    checkpoints = [str(path) for path in paths]
    return make_report(
        fold_parts, ranks, split=name, signature=signature, checkpoints=checkpoints, queries=_queries(first)
    )


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


def _joined(parts: Sequence[EmbeddingFile], key: str) -> str | None:
    """One value for an ensemble: those of its members, equal ones once."""
    known = dict.fromkeys(str(part.attributes[key]) for part in parts if key in part.attributes)
    return "+".join(known) or None
