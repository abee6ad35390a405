"""`selfalign import-checkpoint`: a checkpoint of the published programs becomes one for `eval` and export.

What the old file does not hold is added: the vocabulary of VSRN, or BERT's configuration and pieces for
CAMERA. The new checkpoint says `compat: published`, so its scores are those of the published script at the same batch
size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.checkpoint import Checkpoint, save_checkpoint
from selfalign_cli.assembly.features import needs_boxes, open_features
from selfalign_cli.assembly.language import CaptionEncoder
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.errors import CheckpointError, DataError
from selfalign_cli.published.checkpoint import PublishedCheckpoint, read_published_checkpoint
from selfalign_cli.published.options import VSE_INFTY_DECAY, host_of_options, is_flickr, recipe_from_published
from selfalign_cli.published.vocabulary import read_vocabulary
from selfalign_cli.published.weights import attention_layers, fit_weights, tensor_size
from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.schema import Recipe

SELECTIONS = {"r1+r5": "best dev R@1 + R@5, both directions", "rsum": "best dev rsum"}
POSITIONS = "bert.embeddings.position_embeddings.weight"


@dataclass(frozen=True)
class ImportSources:
    """What is needed in addition to the old checkpoint.

    Attributes:
        vocab: vocabulary file of the run, for hosts that read words.
        bert: BERT folder (configuration and vocab.txt; weights are not read), for hosts that read word pieces.
        tokenizer, lowercase: how captions are read; None for what the vocabulary records, or treebank and ascii.
        data: feature file that the new checkpoint names; None for none.
    """

    vocab: Path | None = None
    bert: Path | None = None
    tokenizer: str | None = None
    lowercase: str | None = None
    data: Path | None = None


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        checkpoint: as it was written.
        summary: facts by name, for a table.
        notes: what the user should know, one sentence each.
    """

    checkpoint: Checkpoint
    summary: dict[str, str]
    notes: list[str]

    @property
    def limits(self) -> str:
        """What the new checkpoint cannot do."""
        generator = self.checkpoint.recipe.host.has("captioning")
        lacking = "no optimizer state and no caption generator" if generator else "no optimizer state"
        return f"It scores and exports. Training cannot be resumed from it: the old file holds {lacking}."


@dataclass(frozen=True)
class _Language:
    """How captions are read, and the untrained token encoder with its configuration (CAMERA)."""

    captions: CaptionEncoder
    bert: nn.Module | None = None
    bert_config: dict[str, Any] | None = None


def import_checkpoint(source: Path, out: Path, sources: ImportSources, *, overwrite: bool = False) -> Imported:
    """Convert a published checkpoint.

    Args:
        source: the `.pth.tar` file.
        out: checkpoint to write.
        sources: what the old file does not hold.
        overwrite: replace a file that is there.

    Raises:
        CheckpointError: the file is damaged, of another kind, refers to foreign Python objects, or its weights do not
            fit its options or the vocabulary.
        DataError: vocabulary, BERT folder or feature file are missing or faulty, or `out` exists.
    """
    refuse_existing(out, overwrite, [source])
    published = read_published_checkpoint(source)
    language = _language(published, sources)
    recipe = _recipe(published, language, sources)
    _check_positions(published, recipe)
    width = tensor_size(published, "image", "fc.weight", axis=1)
    with torch.device("meta"):  # names and shapes only
        own = build_model(recipe, feature_dim=width, vocab_size=len(language.captions), bert=language.bert)
    weights, notes = fit_weights(published, own.state_dict(), prototypes=recipe.loss.concept.prototypes)
    checkpoint = Checkpoint(
        recipe=recipe,
        feature_dim=width,
        text=language.captions.to_dict(),
        bert_config=language.bert_config,
        data={**_data_of(sources.data, recipe, width, language.captions), "imported_from": source.name},
        model=weights,
        epoch=published.epoch,
        step=published.steps,
        scores={} if published.selection is None else {recipe.validation.select_by: published.selection},
        training=None,
    )
    save_checkpoint(out, checkpoint)
    return Imported(checkpoint, _summary(published, checkpoint, language), [*_unused(published, sources), *notes])


def _recipe(published: PublishedCheckpoint, language: _Language, sources: ImportSources) -> Recipe:
    if not _options_fit(published):
        weights, options = HOSTS[published.host].title, HOSTS[host_of_options(published.options)].title
        raise CheckpointError(f"{published.path} has the weights of {weights} and the options of {options}")
    try:
        return recipe_from_published(
            published.options,
            selfalign=published.selfalign,
            captioner=True,
            attention_layers=attention_layers(published.image),
            tokenizer=getattr(language.captions, "tokenizer", "auto"),
            lowercase=getattr(language.captions, "lowercase", "ascii"),
            features=str(sources.data.resolve()) if sources.data is not None else "unknown",
            host_name=published.host,
            positions=None if language.bert is None else tensor_size(published, "text", POSITIONS, axis=0),
        )
    except CheckpointError as fault:
        raise CheckpointError(f"{published.path}: {fault.message}", fault.hint) from fault


def _options_fit(published: PublishedCheckpoint) -> bool:
    """Whether options and weights are of one program; VSE∞'s may lack what tells its options from VSRN's."""
    host, of_options = published.host, host_of_options(published.options)
    return of_options != "camera" if host in VSE_INFTY_DECAY else of_options == host


def _check_positions(published: PublishedCheckpoint, recipe: Recipe) -> None:
    """Refuse captions longer than BERT has positions for."""
    if recipe.host.captions == "pieces":
        positions = tensor_size(published, "text", POSITIONS, axis=0)
        if (recipe.data.max_words or 0) > positions:
            raise CheckpointError(
                f"{published.path}: its options say captions of {recipe.data.max_words} pieces, and its BERT has "
                f"{positions} positions"
            )


def _language(published: PublishedCheckpoint, sources: ImportSources) -> _Language:
    if HOSTS[published.host].captions == "pieces":
        return _pieces(published, sources)
    return _words(published, sources)


def _words(published: PublishedCheckpoint, sources: ImportSources) -> _Language:
    if sources.vocab is None:
        raise DataError(
            f"{published.path} is a {HOSTS[published.host].title} checkpoint, which does not hold its vocabulary",
            "add --vocab with the vocabulary of the run, e.g. vocab/f30k_precomp_vocab.pkl",
        )
    if published.host == "vsrn":
        _check_final_norm(published)
    masked = published.host in VSE_INFTY_DECAY  # it appends a mask, and lower-cases every letter
    lowercase = sources.lowercase or ("unicode" if masked else None)
    vocabulary = read_vocabulary(sources.vocab, tokenizer=sources.tokenizer, lowercase=lowercase)
    vocabulary = vocabulary.with_mask() if masked else vocabulary
    rows = tensor_size(published, "text", "embed.weight", axis=0)
    if len(vocabulary) != rows:
        raise DataError(
            f"{sources.vocab} has {len(vocabulary):,} words{', <mask> included' * masked}; the word table of "
            f"{published.path} has {rows:,}",
            "take the vocabulary the checkpoint was trained with: those of other programs and data sets have other "
            "ids for the same words",
        )
    return _Language(vocabulary)


def _check_final_norm(published: PublishedCheckpoint) -> None:
    """Hold the data set that the options name against the weights that only one of them has."""
    named, found = published.options.get("data_name"), "bn.weight" in published.image
    if named is not None and is_flickr(published.options) != found:
        raise CheckpointError(
            f"{published.path}: its options name the data set {named!r}, for which the published programs "
            f"{'have no' if found else 'have a'} batch normalisation of the picture vector (bn.*), and the file "
            f"{'holds one' if found else 'holds none'}",
            "the file was written by a changed program, or its options were edited",
        )


def _pieces(published: PublishedCheckpoint, sources: ImportSources) -> _Language:
    if sources.bert is None:
        raise DataError(
            f"{published.path} is a {HOSTS[published.host].title} checkpoint, which holds BERT's weights but "
            "neither its configuration nor its pieces",
            "add --bert with the BERT folder of the run (bert_config.json and vocab.txt)",
        )
    if not published.options.get("do_lower_case", True):
        raise CheckpointError(f"{published.path} was trained on cased captions, which the published programs never do")
    # Imported here: transformers takes seconds to import.
    from selfalign_cli.published.bert import read_bert_folder

    vectors = tensor_size(published, "text", "bert.embeddings.word_embeddings.weight", axis=0)
    chinese = HOSTS[published.host].splits_chinese
    return _Language(*read_bert_folder(sources.bert, vectors=vectors, split_chinese=chinese))


def _data_of(path: Path | None, recipe: Recipe, width: int, captions: CaptionEncoder) -> dict[str, Any]:
    """What the checkpoint records about its features; texts are empty when no file was named."""
    file = None if path is None else open_features(path, feature_dim=width, boxes=needs_boxes(recipe))
    return {
        "features": "" if file is None else str(file.path.resolve()),
        "content_hash": "" if file is None else file.content_hash,
        "text_hash": captions.content_hash,
    }


def _summary(published: PublishedCheckpoint, checkpoint: Checkpoint, language: _Language) -> dict[str, str]:
    """What was imported, for a table."""
    recipe = checkpoint.recipe
    kind = recipe.host.captions
    reading = f", {recipe.data.tokenizer}, {recipe.data.lowercase} lower-casing" if kind == "words" else ""
    selection = "not in the file" if published.selection is None else f"{published.selection:.1f}"
    return {
        "model": recipe.host.title + (" with SelfAlign" if published.selfalign else ""),
        "trained": f"{published.epoch} epochs, {published.steps:,} steps",
        SELECTIONS[recipe.validation.select_by]: selection,
        "widths": f"regions {checkpoint.feature_dim:,}, embeddings {recipe.embed_dim:,}",
        "captions": f"{len(language.captions):,} {kind}{reading}",
        "compat": recipe.compat,
    }


def _unused(published: PublishedCheckpoint, sources: ImportSources) -> list[str]:
    """Say which options did nothing."""
    host = HOSTS[published.host]
    if host.captions == "pieces":
        given = {"--vocab": sources.vocab, "--tokenizer": sources.tokenizer, "--lowercase": sources.lowercase}
        reason = f"{host.title} reads captions with BERT's pieces"
    else:
        given, reason = {"--bert": sources.bert}, f"{host.title} has no BERT"
    return [f"{option} was not used: {reason}" for option, value in given.items() if value is not None]
