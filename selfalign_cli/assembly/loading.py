"""Bring together what a recipe names: feature file, caption encoder, fresh model; and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.checkpoint import Checkpoint, load_state
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.errors import CheckpointError, DataError, RecipeError
from selfalign_cli.launch import launched, local_number
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.schema import CameraSection, Recipe


class CaptionEncoder(Protocol):
    """Text to token ids, marks included; a vocabulary of words or of WordPieces."""

    def encode(self, text: str) -> list[int]:
        """Ids of a caption, start and end marks included."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores of it."""

    def __len__(self) -> int:
        """Return the number of tokens it knows."""

    @property
    def unknown(self) -> int:
        """Id of what it does not know."""

    @property
    def content_hash(self) -> str:
        """Hash of all that decides its ids."""


@dataclass(frozen=True)
class Language:
    """How captions are read: their encoder, and the token encoder below the text side (CAMERA)."""

    captions: CaptionEncoder
    bert: nn.Module | None


def language_of_recipe(recipe: Recipe) -> Language:
    """Read the vocabulary, or the BERT folder, that a recipe names."""
    if isinstance(recipe.model, CameraSection):
        from selfalign_cli.data.text.wordpiece import load_tokenizer
        from selfalign_cli.models.bert import check_limits, load_bert

        source = recipe.model.bert
        bert = load_bert(source)
        tokenizer = load_tokenizer(source, published=recipe.compat == "published")
        check_limits(bert, tokens=len(tokenizer), max_words=recipe.data.max_words, source=source)
        return Language(tokenizer, bert)
    assert recipe.data.vocab is not None  # a fault of the recipe otherwise
    vocabulary = Vocabulary.load(recipe.data.vocab)
    if vocabulary.lowercase != recipe.data.lowercase:
        raise DataError(
            f"{recipe.data.vocab} was built from captions lower-cased the {vocabulary.lowercase} way; "
            f"the recipe says data.lowercase: {recipe.data.lowercase}",
            f"selfalign build-vocab … --lowercase {recipe.data.lowercase}, or set data.lowercase",
        )
    if recipe.data.tokenizer != "auto":
        vocabulary = replace(vocabulary, tokenizer=recipe.data.tokenizer)
    return Language(vocabulary, None)


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


def model_of_checkpoint(
    checkpoint: Checkpoint, *, what: str, recipe: Recipe | None = None, language: Language | None = None
) -> RetrievalModel:
    """Build the model of a checkpoint and load its weights.

    Args:
        checkpoint: the checkpoint.
        what: name of the file, for messages.
        recipe: a recipe in place of the checkpoint's, to score it under the other `compat`.
        language: from `language_of_checkpoint`, when it is there already; its token encoder becomes the model's.
    """
    language = language or language_of_checkpoint(checkpoint)
    model = build_model(
        recipe or checkpoint.recipe,
        feature_dim=checkpoint.feature_dim,
        vocab_size=len(language.captions),
        bert=language.bert,
    )
    load_state(model, checkpoint.model, what=what)
    return model


def open_features(path: str | Path, *, feature_dim: int | None = None, boxes: bool = False) -> FeatureFile:
    """Open a feature file and check that it fits.

    Args:
        path: the file.
        feature_dim: width the model was built for; None for any.
        boxes: the model needs boxes and picture sizes.
    """
    file = FeatureFile(path)
    if feature_dim is not None and file.feature_dim != feature_dim:
        raise DataError(
            f"{path} has features of width {file.feature_dim}; the checkpoint was trained on width {feature_dim}",
            "convert features of the same detector",
        )
    needed = (("boxes", file.facts.boxes), ("picture sizes", file.facts.image_size)) if boxes else ()
    missing = [name for name, found in needed if found is None]
    if missing:
        lacking = " and ".join(missing)
        raise DataError(
            f"{path} has no {lacking}, which model camera needs",
            "selfalign convert-features SOURCE --out FILE.h5, from a source with boxes and picture sizes "
            "(SCAN folders: {split}_boxes.npy and {split}_img_sizes.npy)",
        )
    return file


def needs_boxes(recipe: Recipe) -> bool:
    """Tell whether the model of a recipe reads boxes and picture sizes."""
    return isinstance(recipe.model, CameraSection)


def choose_device(name: str) -> torch.device:
    """Turn auto, cpu or cuda into a device; processes of `torchrun` take a GPU each.

    Raises:
        RecipeError: another name, no GPU, or fewer of them than processes.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            "--device cuda: this torch sees no CUDA device", "leave --device out, or install a CUDA build of torch"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # Torch lets cuDNN round recurrent layers and convolutions to ten bits unless told not to; products it does not.
    torch.backends.cudnn.allow_tf32 = False
    if launched():
        if local_number() >= torch.cuda.device_count():
            raise RecipeError(
                f"process {local_number()} here has no GPU of its own: torch sees {torch.cuda.device_count()}",
                "start as many processes as there are GPUs (--nproc-per-node), or add --device cpu",
            )
        torch.cuda.set_device(local_number())
        return torch.device("cuda", local_number())
    return torch.device("cuda")
