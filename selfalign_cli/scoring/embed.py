"""A checkpoint and a split to vectors with names: what `eval` scores and `export-embeddings` writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.assembly.split import SplitData, message_about_cut
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.data.features.origin import described
from selfalign_cli.metrics.report import signature_of
from selfalign_cli.recipe.compat import Preset
from selfalign_cli.scoring.embedding_arrays import EXTRACTOR, Attributes
from selfalign_cli.scoring.embeddings import EmbeddingFile

HASH_DIGITS = 8


@dataclass(frozen=True)
class EncodingOptions:
    """How checkpoints are encoded.

    Attributes:
        split: name of the split; None for test.
        data: feature file; None for the one a checkpoint was trained on.
        batch_size: rows encoded at once; None for the recipe's.
        compat: preset to encode under; None for the checkpoint's own.
    """

    split: str | None = None
    data: Path | None = None
    batch_size: int | None = None
    compat: Preset | None = None


def ignore(message: str) -> None:
    """Drop a message."""


def embed_checkpoint(
    path: Path,
    options: EncodingOptions,
    *,
    device: torch.device,
    captions_required: bool = True,
    written: Sequence[Path] = (),
    notify: Callable[[str], None] = ignore,
) -> EmbeddingFile:
    """Encode a split with a checkpoint.

    Args:
        path: the checkpoint.
        options: what to encode, and how.
        device: where to compute.
        captions_required: refuse pictures without captions before anything is encoded.
        written: files that will be written; the features may not be one of them.
        notify: shows messages, about captions that were cut for one.

    Returns:
        The vectors; attributes hold the signature and its parts.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        DataError: features or split are missing or do not fit, or lack captions that are required.
    """
    retriever = Retriever.load(path, device=device, compat=options.compat)
    file = retriever.open_features(options.data)
    split = retriever.open_split(file, options.split or "test", captions_required=captions_required)
    for out in written:
        refuse_existing(out, True, [file.path])
    for message in _messages(retriever, split, own_data=options.data is None):
        notify(f"{path}: {message}")
    images = retriever.encode_pictures(file, rows=split.images, batch_size=options.batch_size)
    captions = retriever.encode_texts(split.tokens, batch_size=options.batch_size)
    caption_ids, file_names = file.caption_ids, file.file_names
    return EmbeddingFile(
        images,
        captions,
        torch.from_numpy(split.image_of_caption),
        [file.image_ids[row] for row in split.images],
        [file.captions[row] for row in split.captions],
        _attributes(retriever, split, options.batch_size),
        None if caption_ids is None else [caption_ids[row] for row in split.captions],
        None if file_names is None else [file_names[row] for row in split.images],
    )


def _messages(retriever: Retriever, split: SplitData, *, own_data: bool) -> list[str]:
    """Messages about the data, before anything is encoded."""
    file, trained_on = split.file, retriever.trained_on
    messages = []
    if own_data and trained_on is not None and file.content_hash != trained_on.content_hash:
        messages.append(f"{file.path} holds other data than the checkpoint was trained on")
    if len(split.captions) == 0:
        messages.append(f"{file.path} holds pictures without captions: only pictures are encoded")
    known = None if trained_on is None else trained_on.extractor
    if (known is None) != (file.extractor is None):
        one, other = ("the checkpoint", file.path) if known is None else (file.path, "the checkpoint")
        messages.append(
            f"{one} does not say which extractor made its regions; make sure that it is that of {other}: "
            f"{described(known or file.extractor or {})}"
        )
    cut = message_about_cut(split.tokens, split=split.split, max_words=retriever.recipe.data.max_words)
    return [*messages, cut] if cut else messages


def _attributes(retriever: Retriever, split: SplitData, batch_size: int | None) -> Attributes:
    """The signature and its parts; the batch size only where results depend on it."""
    identity = retriever.identity
    model, data = identity.weights[:HASH_DIGITS], split.file.content_hash[:HASH_DIGITS]
    batch = None if retriever.rows_are_independent else retriever.batch_size(batch_size)
    signature = signature_of(
        split=split.split,
        images=len(split.images),
        captions=len(split.captions),
        folds=1,
        similarity=identity.similarity,
        compat=identity.compat,
        recipe=identity.recipe,
        model=model,
        data=data,
        batch=batch,
    )
    return {
        "split": split.split,
        "similarity": identity.similarity,
        "compat": identity.compat,
        "recipe": identity.recipe,
        "model": model,
        "data": data,
        **({} if split.file.extractor is None else {EXTRACTOR: json.dumps(split.file.extractor, sort_keys=True)}),
        **({} if batch is None else {"batch": batch}),
        "signature": signature,
    }
