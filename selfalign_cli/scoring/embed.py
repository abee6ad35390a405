"""A checkpoint and a split to vectors with names: what `eval` scores and `export-embeddings` writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from selfalign_cli.assembly.checkpoint import Checkpoint, hash_of_state, load_checkpoint
from selfalign_cli.assembly.encode import SplitData, embed_split, open_split, rows_are_independent, told_of_cut
from selfalign_cli.assembly.loading import (
    Language,
    language_of_checkpoint,
    model_of_checkpoint,
    needs_boxes,
    open_features,
)
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.report import signature_of
from selfalign_cli.recipe.compat import Preset, compat_label
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.load import with_compat
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.scoring.embeddings import EmbeddingFile

HASH_DIGITS = 8


def embed_checkpoint(
    path: Path,
    *,
    split: str,
    data: Path | None = None,
    batch_size: int | None = None,
    compat: Preset | None = None,
    device: torch.device,
    written: Sequence[Path] = (),
    say: Callable[[str], None] = lambda _: None,
) -> EmbeddingFile:
    """Encode a split with a checkpoint.

    Args:
        path: the checkpoint.
        split: name of the split.
        data: feature file; None for the one the checkpoint was trained on.
        batch_size: rows encoded at once; None for the recipe's.
        compat: encode under this preset instead of the checkpoint's.
        device: where to compute.
        written: files that will be written; the features may not be one of them.
        say: shows what a person should know: captions that were cut.

    Returns:
        The vectors; attributes hold the signature and its parts.
    """
    checkpoint = load_checkpoint(path)
    recipe = with_compat(checkpoint.recipe, compat) if compat else checkpoint.recipe
    language = language_of_checkpoint(checkpoint)
    rows = _split_of(path, checkpoint, recipe, language, data, split)
    for out in written:
        refuse_existing(out, True, [rows.file.path])
    if data is None and rows.file.content_hash != checkpoint.data["content_hash"]:
        say(f"{path}: {rows.file.path} holds other data than the checkpoint was trained on")
    told = told_of_cut(rows.tokens, split=split, max_words=recipe.data.max_words)
    if told:
        say(f"{path}: {told}")
    model = model_of_checkpoint(checkpoint, recipe=recipe, language=language, what=str(path)).to(device)
    images, captions = embed_split(recipe, model, rows, device=device, batch_size=batch_size)
    parts: dict[str, str | int] = {
        "split": split,
        "similarity": recipe.loss.ranking.similarity,
        "compat": compat_label(recipe),
        "recipe": recipe_hash(recipe),
        "model": hash_of_state(checkpoint.model)[:HASH_DIGITS],
        "data": rows.file.content_hash[:HASH_DIGITS],
    }
    if not rows_are_independent(recipe):
        parts["batch"] = batch_size or recipe.validation.batch_size
    counts = {"images": len(rows.images), "captions": len(rows.captions), "folds": 1}
    signature = signature_of(**parts, **counts)  # type: ignore[arg-type]
    names, texts, ids = rows.file.image_ids, rows.file.captions, rows.file.caption_ids
    file_names = rows.file.file_names
    return EmbeddingFile(
        images,
        captions,
        torch.from_numpy(rows.image_of_caption),
        [names[row] for row in rows.images],
        [texts[row] for row in rows.captions],
        {**parts, "signature": signature},
        None if ids is None else [ids[row] for row in rows.captions],
        None if file_names is None else [file_names[row] for row in rows.images],
    )


def _split_of(
    path: Path, checkpoint: Checkpoint, recipe: Recipe, language: Language, data: Path | None, split: str
) -> SplitData:
    if data is None and not checkpoint.data["features"]:
        raise DataError(f"{path} was imported and names no feature file", "name one with --data")
    place = data or Path(checkpoint.data["features"])
    if data is None and not place.exists():
        raise DataError(
            f"{place}, which the checkpoint was trained on, does not exist any more", "name a feature file with --data"
        )
    file = open_features(place, feature_dim=checkpoint.feature_dim, boxes=needs_boxes(recipe))
    limit = recipe.data.dev_limit if split == recipe.data.dev_split else None
    return open_split(file, split, language.captions.encode, max_words=recipe.data.max_words, limit=limit)
