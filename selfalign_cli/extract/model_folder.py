"""Model folders of `transformers`: what kind of model is in one, its identity, and loading it offline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfalign_cli.bert_folder import HUB_MARK, quiet_transformers
from selfalign_cli.errors import CheckpointError, DataError, reason_of
from selfalign_cli.extract.pictures import UnreadableError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FROM_HUB = ["*.json", "config.yaml", "objects_vocab.txt", "*.safetensors", "pytorch_model*.bin"]
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
DETECTION = "ForObjectDetection"
HASHED_AT_ONCE = 1 << 22
OF_THE_MACHINE = ("CUDA", "out of memory", "allocate memory")
"""What errors say that are not about a picture."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder, or a model of the hub, that holds a vision model.

    Attributes:
        source: as it was named.
        folder: where its files are.
        config: what its `config.json` says.
    """

    source: str
    folder: Path
    config: dict[str, Any]

    @property
    def is_detector(self) -> bool:
        """Whether it finds objects, in place of describing all of the picture."""
        return any(str(name).endswith(DETECTION) for name in self.config.get("architectures") or [])

    def identity(self) -> dict[str, str]:
        """Name of the folder and SHA-256 (hex) of its configuration, its preprocessing and its weights."""
        names = [CONFIG, PREPROCESSOR, *_weight_files(self.folder)]
        return {
            "name": name_of(self.source),
            "model_type": str(self.config.get("model_type", "")),
            **hashes_of(self.folder, names),
        }

    def preprocessing(self) -> dict[str, Any]:
        """What `preprocessor_config.json` says.

        Raises:
            CheckpointError: there is no such file, or it is no JSON object.
        """
        path = self.folder / PREPROCESSOR
        if not path.is_file():
            raise CheckpointError(
                f"{self.folder} has no {PREPROCESSOR}; expected mean and deviation of the colours the model was "
                "trained on",
                "copy that file of the same model into the folder",
            )
        return _read_json(path)


def find_model_folder(source: str) -> Path:
    """The folder that a user names, of whatever kind of model.

    Args:
        source: a folder, or `hub:owner/name`, which alone may be downloaded.

    Raises:
        DataError: there is no such folder.
        CheckpointError: the hub does not give it.
    """
    folder = _from_hub(source.removeprefix(HUB_MARK)) if source.startswith(HUB_MARK) else Path(source).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{source} {found}; expected the folder of a vision model ({CONFIG} and its weights)")
    return folder


def name_of(source: str) -> str:
    """How a model is called: the name of its folder, or what stands for it at the hub."""
    return source if source.startswith(HUB_MARK) else Path(source).expanduser().resolve().name


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) of those of some files that are there, by name."""
    return {name: _sha256(folder / name) for name in names if (folder / name).is_file()}


def open_model_folder(source: str) -> ModelFolder:
    """Look at a model folder without loading its weights.

    Args:
        source: a folder that `transformers` wrote, or `hub:owner/name`, which alone may be downloaded.

    Raises:
        DataError: there is no such folder.
        CheckpointError: it lacks files, or its configuration cannot be read.
    """
    folder = find_model_folder(source)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{source} has no {CONFIG}; expected a model folder that transformers wrote",
            "name a folder with config.json, or for --detector with config.yaml of the bottom-up-attention detector",
        )
    if not _weight_files(folder):
        raise CheckpointError(f"{source} holds no weights; expected {' or '.join(WEIGHTS)}")
    return ModelFolder(source, folder, _read_json(folder / CONFIG))


def load_model(place: ModelFolder, auto_class: str) -> nn.Module:
    """Load a model in evaluation mode and single precision.

    Args:
        place: the folder.
        auto_class: name of the class of `transformers` that builds it, `AutoModel` or `AutoModelForObjectDetection`.

    Raises:
        CheckpointError: `transformers` cannot build it, or its weights are damaged or incomplete.
    """
    with quiet_transformers():
        import transformers

        try:
            model, found = getattr(transformers, auto_class).from_pretrained(
                str(place.folder),
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as fault:  # transformers, safetensors and torch each have their own
            reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            raise CheckpointError(f"cannot load a vision model from {place.source}: {reason}") from fault
    missing = sorted(str(name) for name in found["missing_keys"])
    mismatched = sorted(str(name[0]) for name in found["mismatched_keys"])
    if missing or mismatched:
        faults = [f"  missing weight {name}" for name in missing]
        faults += [f"  misshapen weight {name}" for name in mismatched]
        more = [f"  … and {len(faults) - 10} more"] if len(faults) > 10 else []
        raise CheckpointError("\n".join([f"{place.source} does not hold a whole model:", *faults[:10], *more]))
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded


@contextmanager
def one_picture() -> Iterator[None]:
    """Blame the picture for what a model raises while it looks at one, e.g. for a map too small for its layers.

    Raises:
        UnreadableError: with the reason; not for a lack of memory and faults of the device, which end the run.
    """
    try:
        yield
    except (RuntimeError, ValueError) as fault:
        if any(mark in str(fault) for mark in OF_THE_MACHINE):
            raise
        raise UnreadableError(f"the model cannot look at it: {reason_of(fault)}") from fault


def _from_hub(name: str) -> Path:
    with quiet_transformers():
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, allow_patterns=FROM_HUB))
        except Exception as fault:  # the client has many
            reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            raise CheckpointError(f"the hub does not give {name}: {reason}", "name a folder in its place") from fault


def _weight_files(folder: Path) -> list[str]:
    """Names of the files with weights, the index of several first."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            if not name.endswith(".index.json"):
                return [name]
            parts = _read_json(folder / name).get("weight_map")
            return [name, *sorted({str(part) for part in parts.values()})] if isinstance(parts, dict) else [name]
    return []


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise CheckpointError(f"{path} cannot be read as JSON: {fault}") from fault
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}; expected settings by name")
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        while block := raw.read(HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
