"""Checkpoints: one file that holds all that `eval`, `export-embeddings` and `train --resume` need.

A checkpoint is a dict of tensors, numbers, texts, lists and dicts, saved by `torch.save` and read with
`weights_only=True`: nothing in it can run. It is written under a temporary name, synced and renamed, so a checkpoint
on disk is always whole.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfalign_cli import __version__
from selfalign_cli.data.atomic import replacing
from selfalign_cli.errors import CheckpointError, RecipeError, blaming
from selfalign_cli.recipe.load import recipe_from_dict, with_widths
from selfalign_cli.recipe.schema import Recipe

FORMAT = "selfalign-checkpoint"
VERSION = 1

KINDS: dict[str, tuple[type, ...]] = {
    "feature_dim": (int,),
    "epoch": (int,),
    "step": (int,),
    "recipe": (dict,),
    "text": (dict,),
    "data": (dict,),
    "model": (dict,),
    "scores": (dict,),
    "bert_config": (dict, type(None)),
    "training": (dict, type(None)),
}
"""The types of the fields of a checkpoint file; they are checked when it is read."""

CONVERT = "copy or train it again; a checkpoint of the published scripts is converted by `selfalign import-checkpoint`"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        recipe: the resolved recipe.
        feature_dim: F of the features it was trained on.
        text: the vocabulary or tokenizer, as `CaptionEncoder.to_dict` gives it.
        bert_config: configuration of the token encoder (CAMERA), or None.
        data: where the features were (`features`) and their hash (`content_hash`).
        model: state of the retrieval model.
        epoch, step: epochs begun and optimizer steps done.
        scores: dev scores at that step; empty before the first validation.
        training: what only `--resume` needs (see `trainer.TrainState`); None in best.ckpt and imported checkpoints.
    """

    recipe: Recipe
    feature_dim: int
    text: dict[str, Any]
    bert_config: dict[str, Any] | None
    data: dict[str, Any]
    model: dict[str, torch.Tensor]
    epoch: int
    step: int
    scores: dict[str, float]
    training: dict[str, Any] | None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a file of that name is replaced only by a complete one."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "selfalign_version": __version__,
        **{name: getattr(checkpoint, name) for name in KINDS},
        "recipe": checkpoint.recipe.model_dump(),
    }
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as fault:  # torch's zip writer reports a full disk without an errno
            raise OSError(28, str(fault).splitlines()[0]) from fault


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to CPU memory.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind or from a newer version.
    """
    with blaming(f"{path} cannot be read as a checkpoint", CONVERT, error=CheckpointError):
        content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a selfalign checkpoint", CONVERT)
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {content.get('version')!r}; this release reads version {VERSION}",
            f"it was written by selfalign {content.get('selfalign_version')!r}; install that release",
        )
    faulty = [name for name, kinds in KINDS.items() if not isinstance(content.get(name, ...), kinds)]
    if faulty or not isinstance(content["data"].get("features"), str):
        raise CheckpointError(
            f"{path} lacks {', '.join(faulty) or 'the place of its data'}, or has something else in that place",
            "was the checkpoint edited? copy or train it again",
        )
    try:
        recipe, _ = with_widths(recipe_from_dict(content["recipe"], f"{path} (its recipe)"), content["feature_dim"])
    except RecipeError as fault:
        raise CheckpointError(fault.message, "was the checkpoint edited, or written by a newer release?") from fault
    fields = {name: content[name] for name in KINDS}
    return Checkpoint(**{**fields, "recipe": recipe})


def _read(path: Path) -> object:
    """Unpack a file written by `torch.save`, after a look at its checksums, which torch itself does not take."""
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise CheckpointError(f"{path} is damaged or not a checkpoint", CONVERT)
            with zipfile.ZipFile(file) as archive:
                broken = fault_of_archive(archive)
        if broken is not None:
            raise CheckpointError(f"{path} is damaged: {broken}", "copy or train it again")
        with warnings.catch_warnings():  # torch's, about other kinds of files, which are refused anyway
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as fault:
        raise CheckpointError(f"{path} does not exist") from fault
    except IsADirectoryError as fault:
        raise CheckpointError(
            f"{path} is a folder; expected a checkpoint file", f"try {path / 'best.ckpt'}"
        ) from fault
    except pickle.UnpicklingError as fault:
        raise CheckpointError(
            f"{path} holds Python objects that a selfalign checkpoint never holds; nothing of it was run", CONVERT
        ) from fault


def hash_of_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over the names, types, shapes and bits of weights."""
    digest = hashlib.sha256()
    for name, weights in sorted(state.items()):
        digest.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fault_of_archive(archive: zipfile.ZipFile) -> str | None:
    """What is wrong with an archive that `torch.save` should have written; None if nothing is.

    Torch compresses nothing, so what is compressed was made to fill the memory.
    """
    packed = next((info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        return f"{packed} is compressed"
    broken = archive.testzip()
    return None if broken is None else f"{broken} has another checksum"


def load_state(module: torch.nn.Module, state: Any, *, what: str) -> None:
    """Load a state dict strictly; list every missing, unexpected or misshapen weight in one error.

    Args:
        module: where the weights go.
        state: names to tensors.
        what: name of the file, for the message.
    """
    if not isinstance(state, dict):
        raise CheckpointError(f"{what} holds no weights")
    faults = weight_faults(module.state_dict(), state)
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults[:20])
        more = f"\n  … and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise CheckpointError(f"{what} does not fit its model:\n{shown}{more}")
    module.load_state_dict(state)


def weight_faults(own: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> list[str]:
    """What is missing, unexpected, misshapen or not finite among weights.

    Args:
        own: names and shapes that the model has (on any device, the values do not matter).
        state: names to tensors, as a checkpoint holds them.
    """
    faults = [f"missing weight {name}" for name in own if name not in state]
    faults += [f"unexpected weight {name}" for name in state if name not in own]
    for name, value in own.items():
        found = state.get(name)
        if name in state and not isinstance(found, torch.Tensor):
            faults.append(f"{name} is not a tensor")
        elif isinstance(found, torch.Tensor) and found.shape != value.shape:
            faults.append(f"{name} has shape {tuple(found.shape)}; the model needs {tuple(value.shape)}")
        elif isinstance(found, torch.Tensor) and not found.isfinite().all():
            faults.append(f"{name} holds NaN or infinity")
    return faults
