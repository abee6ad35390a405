"""Read a checkpoint of the published VSRN, CAMERA, VSE∞ and SelfAlign programs, without running its pickle.

Such a file (`*.pth.tar`, never a tar archive, or `*.pth`) holds a dict: `model`, a list of the state dicts of image
encoder, text encoder and, with SelfAlign, prototypes; `opt`, an `argparse.Namespace`; `epoch`, `Eiters` and
`best_rsum`. It is a zip archive, or, from before torch 1.6, five pickles followed by the raw numbers; those of Python
2 name the storage location `cuda:0`.
"""

from __future__ import annotations

import argparse
import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from selfalign_cli.assembly.checkpoint import FORMAT, fault_of_archive
from selfalign_cli.data.restricted_pickle import NUMPY_SCALARS, names_in_pickle
from selfalign_cli.errors import CheckpointError

State = dict[str, Tensor]
POOLING, GRID = "gpool.", "image_encoder."
IMAGE_MARKS = ("img_rnn.", "Rs_GCN_", "position_enc.", "mvs.", POOLING)
NAMESPACE = "argparse.Namespace"
OLD_FILE_PICKLES = 5  # magic number, version, machine, content, keys
# What every checkpoint refers to; anything else in a refused file is worth naming.
_USUAL = re.compile(r"torch(\..+)?|collections\.OrderedDict|_codecs\.encode")
_REFUSED = re.compile(r"GLOBAL (\S+) ")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a published checkpoint holds.

    Attributes:
        path: the file.
        image, text: states of the encoders, under published names.
        prototypes: state of the prototypes; None without SelfAlign.
        options: the options of the training script.
        epoch: epochs begun.
        steps: optimizer steps done.
        selection: best dev score so far, stored as `best_rsum`: R@1 + R@5 of both directions, or, of VSE∞, the true
            rsum; None when absent.
    """

    path: Path
    image: State
    text: State
    prototypes: State | None
    options: dict[str, Any]
    epoch: int
    steps: int
    selection: float | None

    @property
    def host(self) -> Literal["vsrn", "camera", "vse_infty", "vse_infty_bert"]:
        """The host whose weights they are."""
        if any(name.startswith(POOLING) for name in self.image):
            return "vse_infty_bert" if any(name.startswith("bert.") for name in self.text) else "vse_infty"
        return "camera" if any(name.startswith(("position_enc.", "mvs.")) for name in self.image) else "vsrn"

    @property
    def selfalign(self) -> bool:
        """Whether SelfAlign is on top of the host."""
        return self.prototypes is not None or any(name.startswith("ctx_fc.") for name in (*self.image, *self.text))


def read_published_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read a checkpoint of the published programs to CPU memory.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or refers to anything but tensors,
            `argparse.Namespace` and numbers of numpy; what it refers to is named.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a dict with model and opt")
    if content.get("format") == FORMAT:
        raise CheckpointError(f"{path} is a selfalign checkpoint already", f"selfalign eval {path}")
    missing = [name for name in ("model", "opt") if name not in content]
    if missing:
        has = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise CheckpointError(f"{path} lacks {' and '.join(missing)}; it holds {has}", _EXPECTED)
    states, options = content["model"], content["opt"]
    if not isinstance(options, argparse.Namespace):
        raise CheckpointError(f"{path}: opt is a {type(options).__name__}; expected an {NAMESPACE}", _EXPECTED)
    if not isinstance(states, list | tuple) or len(states) not in (2, 3) or not all(map(_is_state, states)):
        raise CheckpointError(f"{path}: model is no list of two or three dicts of tensors", _EXPECTED)
    image, text, *prototypes = (_without_parallel_prefix(state) for state in states)
    if any(name.startswith(GRID) for name in image):
        raise CheckpointError(
            f"{path} is a grid model of VSE∞, whose image encoder is a whole network over pixels ({GRID}*)",
            "take a region model (butd_region in its name), which reads region features",
        )
    if not any(name.startswith(IMAGE_MARKS) for name in image):
        raise CheckpointError(
            f"{path} is a checkpoint of neither VSRN, CAMERA nor VSE∞: its image encoder has none of the weights "
            f"{', '.join(f'{mark}*' for mark in IMAGE_MARKS)}, but {', '.join(list(image)[:5]) or 'nothing'}"
        )
    return PublishedCheckpoint(
        path=path,
        image=image,
        text=text,
        prototypes=prototypes[0] if prototypes else None,
        options={str(name): value for name, value in vars(options).items()},
        epoch=_count(content.get("epoch")),
        steps=_count(content.get("Eiters")),
        selection=_score(content.get("best_rsum")),
    )


_EXPECTED = "expected a model_best.pth.tar of the published VSRN, CAMERA or SelfAlign scripts, or one of VSE∞ (.pth)"


def _load(path: Path) -> object:
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a file", f"try {path / 'model_best.pth.tar'}")
    try:
        _expect_checksums(path)
        try:
            return _load_weights_only(path)
        except UnicodeDecodeError:  # Python 2 wrote bytes as text, e.g. those of a numpy number
            return _load_weights_only(path, encoding="latin-1")
    except PermissionError as fault:
        raise CheckpointError(f"{path} cannot be read: permission denied") from fault
    except (MemoryError, CheckpointError):
        raise
    except Exception as fault:  # torch's readers raise whatever a damaged file makes them
        refused = _refused_names(path, fault) if isinstance(fault, pickle.UnpicklingError) else []
        if refused:
            raise CheckpointError(
                f"{path} asks for {', '.join(refused)}; a published checkpoint needs nothing but tensors and "
                f"{NAMESPACE}. It was refused, and nothing of it was run",
                "do not open this file with other programs unless you trust whoever made it",
            ) from fault
        # The messages of torch and pickle advise to run what the file holds.
        raise CheckpointError(f"{path} is damaged or not a checkpoint", _EXPECTED) from fault


def _expect_checksums(path: Path) -> None:
    """Check a zip archive against its checksums, which torch itself ignores; older files have none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            fault = fault_of_archive(archive)
        if fault is not None:
            raise CheckpointError(f"{path} is damaged or not a checkpoint: {fault}", "fetch it again")


def _load_weights_only(path: Path, **extra: Any) -> object:
    admitted: list[Any] = [argparse.Namespace, *((stand_in, name) for name, stand_in in NUMPY_SCALARS.items())]
    with warnings.catch_warnings(), torch.serialization.safe_globals(admitted), open(path, "rb") as stream:
        warnings.simplefilter("ignore")
        return torch.load(stream, map_location="cpu", weights_only=True, **extra)


def _refused_names(path: Path, fault: Exception) -> list[str]:
    """What a refused file refers to and other checkpoints do not. The rest of a name cut short is no name."""
    known, found = {NAMESPACE, *NUMPY_SCALARS}, dict.fromkeys(_names_in_file(path))
    names = [name for name in found if name not in known and not _USUAL.fullmatch(name)]
    return names or [name for name in _REFUSED.findall(str(fault))[:1] if name in found]


def _names_in_file(path: Path) -> Iterator[str]:
    """Yield what the pickles of a checkpoint file refer to, without loading them."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        yield from names_in_pickle(io.BytesIO(archive.read(name)))
            return
        with open(path, "rb") as stream:
            for _ in range(OLD_FILE_PICKLES):
                yield from names_in_pickle(stream)
    except Exception:  # the archive is damaged too; the names found so far are worth naming
        return


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )


def _without_parallel_prefix(state: State) -> State:
    """Names without the `module.` that torch's DataParallel puts before all of them."""
    if state and all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


def _score(value: object) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None
