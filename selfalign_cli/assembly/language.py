"""How captions are read, as a recipe or a checkpoint has it; and the model that a checkpoint describes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import nn

from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.checkpoint import Checkpoint
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.errors import CheckpointError, DataError
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.hosts import BertSection
from selfalign_cli.recipe.schema import Recipe


class CaptionEncoder(Protocol):
    """Text to token ids, marks included; a vocabulary of words or of WordPieces."""

    def encode(self, text: str) -> list[int]:
        """Ids of a caption, start and end marks included."""

    def word_numbers(self, text: str) -> list[int]:
        """For each of these ids the number of its word, from 0; -1 for marks that are never altered."""

    def unknown_words(self, text: str) -> list[str]:
        """The words of a caption that it does not know, each once, in the order of the caption."""

    def word_spans(self, text: str) -> list[tuple[str, range]]:
        """The words of a caption in its order, each with the positions of its tokens among the ids of `encode`."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores of it."""

    def __len__(self) -> int:
        """Return the number of tokens it knows."""

    @property
    def unknown(self) -> int:
        """Id of what it does not know."""

    @property
    def mask(self) -> int | None:
        """Id that stands for a masked word; None where there is none."""

    @property
    def content_hash(self) -> str:
        """Hash of all that decides its ids."""


@dataclass(frozen=True)
class Language:
    """How captions are read: their encoder, and the token encoder below the text side, if the host has one."""

    captions: CaptionEncoder
    bert: nn.Module | None


def language_of_recipe(recipe: Recipe) -> Language:
    """Read the vocabulary, or the BERT folder, that a recipe names."""
    if isinstance(recipe.model, BertSection):
        from selfalign_cli.data.text.wordpiece import load_tokenizer
        from selfalign_cli.models.bert import check_limits, load_bert

        source = recipe.model.bert
        bert = load_bert(source)
        chinese = recipe.host.splits_chinese
        tokenizer = load_tokenizer(source, published=recipe.compat == "published", split_chinese=chinese)
        check_limits(bert, tokens=len(tokenizer), max_words=recipe.data.max_words, source=source)
        return Language(tokenizer, bert)
    assert recipe.data.vocab is not None  # a fault of the recipe otherwise
    vocabulary = Vocabulary.load(recipe.data.vocab)
    if vocabulary.lowercase != recipe.data.lowercase:
        raise DataError(
            f"{recipe.data.vocab} was built with --lowercase {vocabulary.lowercase}; "
            f"the recipe has data.lowercase: {recipe.data.lowercase}",
            f"selfalign build-vocab … --lowercase {recipe.data.lowercase}, or set data.lowercase",
        )
    if recipe.data.tokenizer != "auto":
        vocabulary = replace(vocabulary, tokenizer=recipe.data.tokenizer)
    return Language(vocabulary.with_mask() if recipe.data.alter_words else vocabulary, None)


def language_of_checkpoint(checkpoint: Checkpoint) -> Language:
    """Rebuild the caption encoder, and an untrained token encoder, from what a checkpoint stores."""
    try:
        if checkpoint.bert_config is None:
            return Language(Vocabulary.from_dict(checkpoint.text), None)
        from selfalign_cli.data.text.wordpiece import WordPieceTokenizer
        from selfalign_cli.models.bert import bert_from_config

        return Language(WordPieceTokenizer.from_dict(checkpoint.text), bert_from_config(checkpoint.bert_config))
    except DataError as fault:
        raise CheckpointError(f"the checkpoint's vocabulary is faulty: {fault.message}") from fault


def untrained_model(checkpoint: Checkpoint, recipe: Recipe | None = None) -> tuple[Language, RetrievalModel]:
    """What a checkpoint describes, its weights not yet loaded.

    Args:
        checkpoint: the checkpoint.
        recipe: a recipe in place of the checkpoint's, to encode under the other `compat`.

    Returns:
        How captions are read, and the model.

    Raises:
        CheckpointError: the vocabulary in it is faulty.
    """
    language = language_of_checkpoint(checkpoint)
    model = build_model(
        recipe or checkpoint.recipe,
        feature_dim=checkpoint.feature_dim,
        vocab_size=len(language.captions),
        bert=language.bert,
    )
    return language, model
