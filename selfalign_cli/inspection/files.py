"""What a file of any kind holds, and its faults: checkpoints and embedding files here, the rest by `data`."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from selfalign_cli.assembly.checkpoint import Checkpoint, load_checkpoint, weight_faults
from selfalign_cli.assembly.language import untrained_model
from selfalign_cli.data.features.origin import described
from selfalign_cli.data.features.stored import starts_as_hdf5
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import LIBRARY_ERRORS, CheckpointError, DataError, SelfAlignError
from selfalign_cli.inspection.features import SHOWN_FAULTS, SHOWN_IDS, inspect_feature_file, inspect_vocabulary
from selfalign_cli.metrics.score_blocks import require_finite
from selfalign_cli.published.checkpoint import read_published_checkpoint
from selfalign_cli.recipe.compat import compat_label
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.scoring.embedding_arrays import EXTRACTOR
from selfalign_cli.scoring.embeddings import EmbeddingFile, read_embeddings

ZIP_START = b"PK"
OLD_TORCH_START = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # torch.save before 1.6: the published checkpoints
EMBEDDING_NAMES = ("image", "image_views")


def inspect_any(path: Path, *, quick: bool = False, progress: Progress = no_progress) -> dict[str, Any]:
    """Describe a feature file, embedding file, checkpoint or vocabulary, whichever the content shows it to be.

    Args:
        path: the file.
        quick: of a feature file, leave regions and texts unread.
        progress: shows how far the reading is.

    Returns:
        What the file holds, with `kind`, `path` and `faults`, for JSON.

    Raises:
        SelfAlignError: it cannot be opened as what it looks like.
    """
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{path} is empty", "was its writing interrupted? make it again")
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if starts_as_hdf5(path):
        if _holds_embeddings(path):
            return inspect_embeddings(path)
        return inspect_feature_file(path, quick=quick, progress=progress)
    if _starts_as_torch_or_zip(path):
        return inspect_embeddings(path) if _holds_arrays(path) else _inspect_any_checkpoint(path)
    if path.is_dir():
        return inspect_wordpieces(path)
    return inspect_vocabulary(path)


def _inspect_any_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return inspect_checkpoint(path)
    except CheckpointError:
        try:
            return inspect_published(path)
        except CheckpointError:
            pass
        raise


def inspect_published(path: Path) -> dict[str, Any]:
    """Describe a checkpoint of the published programs; `import-checkpoint` checks whether it fits a vocabulary.

    Raises:
        CheckpointError: it cannot be read as one.
    """
    found = read_published_checkpoint(path)
    parts = {"image": found.image, "text": found.text, "prototypes": found.prototypes or {}}
    weights = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
    faults = [f"{name} holds NaN or infinity" for name, value in weights.items() if not value.isfinite().all()]
    return {
        "kind": "published checkpoint",
        "path": str(path),
        "model": found.host,
        "selfalign": found.selfalign,
        "data_name": str(found.options.get("data_name", "")),
        "parameters": sum(value.numel() for value in weights.values()),
        "epoch": found.epoch,
        "step": found.steps,
        "finite": not faults,
        "shapes": {name: list(value.shape) for name, value in weights.items()},
        "options": {name: value for name, value in found.options.items() if _is_plain(value)},
        "scores": {} if found.selection is None else {"r1+r5": found.selection},
        "faults": shortened(faults),
    }


def inspect_wordpieces(folder: Path) -> dict[str, Any]:
    """Describe the tokenizer of a folder, as `build-vocab --kind wordpiece` makes it, or of a BERT folder.

    Raises:
        DataError: it holds no tokenizer.
    """
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt")):
        raise DataError(
            f"{folder} is a folder without a tokenizer; expected a feature file, vocabulary, checkpoint or embeddings",
            f"a folder of features is converted: selfalign convert-features {folder} --out FILE.h5",
        )
    from selfalign_cli.data.text.wordpiece import load_tokenizer

    tokenizer = load_tokenizer(str(folder))
    return {
        "kind": "word pieces",
        "path": str(folder),
        "pieces": len(tokenizer),
        "content_hash": tokenizer.content_hash,
        "faults": [],
    }


def inspect_checkpoint(path: Path) -> dict[str, Any]:
    """Describe a checkpoint, and check its weights against the model that its recipe describes.

    Raises:
        CheckpointError: it cannot be read as a checkpoint.
    """
    checkpoint = load_checkpoint(path)
    recipe, data = checkpoint.recipe, checkpoint.data
    tokens, parameters, faults = _compared_with_its_model(checkpoint)
    return {
        "kind": "checkpoint",
        "path": str(path),
        "origin": "imported" if data.get("imported_from") else "trained",
        "model": recipe.model.name,
        "selfalign": recipe.selfalign.enabled,
        "compat": compat_label(recipe),
        "recipe_hash": recipe_hash(recipe),
        "embed_dim": recipe.embed_dim,
        "feature_dim": checkpoint.feature_dim,
        "parameters": parameters,
        "captions_read_as": "word pieces" if recipe.host.captions == "pieces" else "words",
        "vocabulary": tokens,
        "features": data["features"],
        "features_hash": str(data.get("content_hash", "")),
        "extractor": described(data["extractor"]) if isinstance(data.get("extractor"), dict) else None,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "resumable": checkpoint.training is not None,
        "finite": not any("NaN" in fault for fault in faults),
        "shapes": {
            name: list(value.shape) for name, value in checkpoint.model.items() if isinstance(value, torch.Tensor)
        },
        "scores": checkpoint.scores,
        "faults": shortened(faults),
    }


def inspect_embeddings(path: Path) -> dict[str, Any]:
    """Describe an embedding file.

    Raises:
        CheckpointError: it cannot be read as an embedding file.
    """
    file = read_embeddings(path, finite=False)
    images, views, width = file.images.pooled.shape
    shared = file.images.shared.shape[1]
    counts = np.bincount(file.image_of_caption.numpy(), minlength=images)
    faults = _embedding_faults(file)
    return {
        "kind": "embeddings",
        "path": str(path),
        "images": images,
        "captions": len(file.captions.pooled),
        "captions_per_image": {"min": int(counts.min()), "mean": float(counts.mean()), "max": int(counts.max())},
        "views": views,
        "width": width + shared,
        "context_width": shared,
        "similarity": str(file.attributes.get("similarity", "dot")),
        "split": _text(file, "split"),
        "compat": _text(file, "compat"),
        "recipe_hash": _text(file, "recipe"),
        "features_hash": _text(file, "data"),
        "extractor": _extractor(file),
        "signature": _text(file, "signature"),
        "image_ids": file.image_ids is not None,
        "caption_texts": file.caption_texts is not None,
        "caption_ids": file.caption_ids is not None,
        "file_names": file.file_names is not None,
        "first_image_ids": (file.image_ids or [])[:SHOWN_IDS],
        "first_caption_ids": (file.caption_ids or [])[:SHOWN_IDS],
        "shapes": {"image": [images, views, width + shared], "caption": [len(file.captions.pooled), width + shared]},
        "finite": not any("NaN" in fault for fault in faults),
        "faults": shortened(faults),
    }


def _extractor(file: EmbeddingFile) -> str | None:
    """What made the regions that were encoded, in one line; None where the file does not say it."""
    try:
        found = json.loads(_text(file, EXTRACTOR) or "")
    except (ValueError, RecursionError):
        return None
    return described(found) if isinstance(found, dict) else None


def shortened(faults: Sequence[str]) -> list[str]:
    """The first faults, and how many more there are."""
    more = len(faults) - SHOWN_FAULTS
    return [*faults[:SHOWN_FAULTS], f"and {more} more"] if more > 0 else list(faults)


def _compared_with_its_model(checkpoint: Checkpoint) -> tuple[int | None, int, list[str]]:
    """Number of tokens, number of parameters, faults; the model is built without memory for its weights."""
    state = checkpoint.model
    try:
        with torch.device("meta"):
            language, model = untrained_model(checkpoint)
    except SelfAlignError as fault:
        stored = sum(value.numel() for value in state.values() if isinstance(value, torch.Tensor))
        return None, stored, [fault.message]
    parameters = sum(weight.numel() for weight in model.parameters())
    return len(language.captions), parameters, weight_faults(model.state_dict(), state)


def _embedding_faults(file: EmbeddingFile) -> list[str]:
    """What would keep `eval` from scoring the file, or make its rows hard to name."""
    faults = [
        *_not_finite(file.images, "image"),
        *_not_finite(file.captions, "caption"),
    ]
    counts = torch.bincount(file.image_of_caption, minlength=len(file.images.pooled))
    without = (counts == 0).nonzero()
    if len(without) and len(file.image_of_caption):  # pictures alone are no fault: they can be searched
        faults.append(f"{len(without):,} pictures have no caption, the first is picture row {int(without[0])}")
    for kind, ids in (("picture", file.image_ids), ("caption", file.caption_ids)):
        twice = 0 if ids is None else len(ids) - len(set(ids))
        if twice:
            faults.append(f"{twice:,} {kind} ids occur more than once")
    return faults


def _not_finite(vectors: RetrievalVectors, what: str) -> list[str]:
    try:
        require_finite(vectors, what)
    except SelfAlignError as fault:
        return [fault.message]
    return []


def _text(file: EmbeddingFile, name: str) -> str | None:
    value = file.attributes.get(name)
    return None if value is None else str(value)


def _is_plain(value: object) -> bool:
    """Whether JSON can hold it."""
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _holds_embeddings(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return any(name in file for name in EMBEDDING_NAMES) and "features" not in file
    except LIBRARY_ERRORS:
        return False  # the reader of feature files reports what is wrong


def _starts_as_torch_or_zip(path: Path) -> bool:
    try:
        with path.open("rb") as raw:
            return raw.read(len(OLD_TORCH_START)).startswith((ZIP_START, OLD_TORCH_START))
    except OSError:
        return False


def _holds_arrays(path: Path) -> bool:
    """Whether a zip archive is one of numpy's; a damaged one goes by its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except LIBRARY_ERRORS:
        return path.suffix.lower() == ".npz"
