"""Weights of a detector's folder: read without running anything, under today's names."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from selfalign_cli.assembly.checkpoint import fault_of_archive, weight_faults
from selfalign_cli.data.restricted_pickle import names_in_pickle
from selfalign_cli.errors import LIBRARY_ERRORS, CheckpointError, reason_of

FAULTS: tuple[type[Exception], ...] = (*LIBRARY_ERRORS, SafetensorError)
FILES = ("model.safetensors", "pytorch_model.bin")
OLDER_ENDINGS = ((".norm.gamma", ".norm.weight"), (".norm.beta", ".norm.bias"))
COUNTER = ".norm.num_batches_tracked"
VARIANCE = ".norm.running_var"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHOWN = 20
EXPECTED = "expected a plain state dict: tensors by name"


def weights_file(folder: Path) -> Path | None:
    """The file of a folder that holds the weights, if there is one."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights to CPU memory; norms once called their weight and bias gamma and beta.

    Raises:
        CheckpointError: the file is damaged, or holds something else than tensors by name.
    """
    state = _read(path)
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds a {type(state).__name__}{'' if state else ' of nothing'}; {EXPECTED}")
    faults = [fault for name, value in state.items() if (fault := _fault_of_entry(name, value))]
    if faults:
        raise CheckpointError(f"{path} is no file of weights:{_listed(faults)}", EXPECTED)
    return _todays_names(state)


def check_weights(own: Mapping[str, Tensor], state: dict[str, Tensor], what: str) -> None:
    """Hold weights against those that the model has; fill in counters, which nothing reads and older files lack.

    Raises:
        CheckpointError: weights are missing, unexpected, misshapen or no possible values; all are counted, and the
            first are listed.
    """
    for name in own:
        if name.endswith(COUNTER):
            state[name] = torch.tensor(0)
    faults = weight_faults(own, state)
    for name in own:
        found = state.get(name)
        if found is not None and name.endswith(VARIANCE) and bool((found < 0).any()):
            faults.append(f"{name} holds a variance below 0")
    if faults:
        raise CheckpointError(f"{what} does not fit its config.yaml:{_listed(faults)}")


def _listed(faults: list[str]) -> str:
    more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return "".join(f"\n  {fault}" for fault in [*faults[:SHOWN], *more])


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                broken = fault_of_archive(archive)
            if broken is not None:
                raise CheckpointError(f"{path} is damaged: {broken}", "fetch it again")
        else:
            _refuse_arrays(path)
        with warnings.catch_warnings():  # torch's, about pickles that only damage can bring about
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise CheckpointError(
            f"{path} is damaged, or holds Python objects beside weights; nothing of it was run", EXPECTED
        ) from fault
    except FAULTS as fault:
        raise CheckpointError(f"{path} cannot be read: {reason_of(fault)}", EXPECTED) from fault


def _refuse_arrays(path: Path) -> None:
    """Refuse a pickle of numpy arrays by its first names, without unpickling anything."""
    with open(path, "rb") as file:
        name = next((name for name in names_in_pickle(file) if name.startswith("numpy")), None)
    if name is not None:
        raise CheckpointError(
            f"{path} is a pickle of numpy arrays (it asks for {name}), which can run programs; it was not opened",
            "get the weights as a state dict (pytorch_model.bin) or as model.safetensors",
        )


def _fault_of_entry(name: Any, value: Any) -> str | None:
    if not isinstance(name, str):
        return f"a name is {name!r:.60}, no text"
    if not isinstance(value, Tensor):
        return f"{name:.80} is a {type(value).__name__}, no tensor"
    if value.layout != torch.strided or not (value.dtype in FLOATS or name.endswith(COUNTER)):
        return f"{name:.80} holds {value.layout} {value.dtype}; expected a plain tensor of floating-point numbers"
    return None


def _todays_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names with weight and bias for gamma and beta, unless that name is taken."""
    renamed = {}
    for name, value in sorted(state.items()):
        today = name
        for old, new in OLDER_ENDINGS:
            if name.endswith(old):
                today = name.removesuffix(old) + new
        renamed[name if today in state else today] = value
    return renamed
