"""Read the golden folder: numbers of the released programs, run on a CPU with no change to their mathematics.

`.safetensors` holds tensors, the `.json` beside it scalars and settings. Names with `f64` are the computation of those
with `f32`, its stored float32 inputs and start values widened. Dropout is 0 in all training cases, and no discrete
decision (hardest negative, best view or region) is near a tie.

    vsrn_*/, camera*/   one model: init (start state), inputs (five batches), eval and train (outputs; in eval the
                        picture's locals and context are halved already), grads (of batch 0, before clipping),
                        step1 and step5 (states after as many steps; `dedup`: every parameter listed once),
                        meta.json (options, losses and clipping lengths of every step)
    units/              one module a file: `case.in.*`, `case.param.*`, and results under f32 and f64
    eval/               vectors or scores with ranks (from 0), first places and recalls
    frcnn/              the detector of docs/FRCNN.md: settings, weights, pictures, stages (eval), single steps (ops)
    legacy/             files as the released programs write and read them, with what they made of them

`grad_in.x` and `grad_param.p` are derivatives of the output where it is a scalar, else of the sum of output times the
stored `weight`. What is computed is in docs/MODELS.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

PRECISIONS = {"f64": torch.float64, "f32": torch.float32}
NOISE_FACTOR, LARGEST_NOISE = 8, 5e-3
ZERO_IN_THEORY = 1e-10
"""Parts of the largest result below which another one is nothing but rounding."""
LEFT_OUT = "LEFT_OUT.txt"  # lists the files that the small copy beside the tests lacks


def golden_root() -> Path:
    """The folder named by SELFALIGN_GOLDEN, or the copy beside the tests."""
    return Path(os.environ.get("SELFALIGN_GOLDEN") or Path(__file__).parents[1] / "golden").resolve()


def skip_where_left_out(pattern: str) -> None:
    """Skip the test if the small copy left out files of that name, e.g. `eval/vectors_*`."""
    listed = golden_root() / LEFT_OUT
    names = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    if any(fnmatch(name, pattern) for name in names):
        reason = f"{pattern} is not in the small copy: set SELFALIGN_GOLDEN to the full golden folder"
        pytest.skip(reason, allow_module_level=True)


def model_cases(host_mark: str) -> list[str]:
    """Names of the model cases whose image encoder has a parameter that starts with `host_mark`."""
    cases = []
    for meta in sorted(golden_root().glob("*/meta.json")):
        state = meta.parent / "init.safetensors"
        if state.exists() and any(name.startswith(f"img_enc.{host_mark}") for name in tensors(state)):
            cases.append(meta.parent.name)
    return cases


def tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file."""
    if not path.exists():
        skip_where_left_out(path.relative_to(golden_root()).as_posix())
    return load_file(path)


def settings(path: Path) -> Any:
    """The JSON beside a file of tensors, or a JSON file itself."""
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def under(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name starts with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in found.items() if name.startswith(prefix + ".")}


def unit_cases(name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Tensor]]]:
    """Cases of a single-module file: name, settings, tensors without the case's name."""
    path = golden_root() / "units" / f"{name}.safetensors"
    found = tensors(path)
    for case, options in settings(path)["cases"].items():
        yield case, options, under(found, case) or found


def golden_files() -> dict[str, int]:
    """Names and sizes of the files that INDEX.json lists; the small copy lists what it lacks instead."""
    index = golden_root() / "INDEX.json"
    if not index.exists():
        assert (golden_root() / LEFT_OUT).exists(), f"{golden_root()} has neither INDEX.json nor {LEFT_OUT}"
        return {}
    return {name: entry["bytes"] for name, entry in json.loads(index.read_text(encoding="utf-8")).items()}


def widen(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Convert the floating tensors of a state."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference; NaN counts as infinite."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)} against {tuple(expected.shape)}"
    gap = (found.detach().double() - expected.double()).abs()
    return float(gap.nan_to_num(nan=float("inf")).max()) if gap.numel() else 0.0


def allowances(expected: Mapping[str, Tensor], exact: Mapping[str, Tensor], documented: float) -> dict[str, float]:
    """How far each of some results of one computation may lie from the golden ones.

    MODELS.md section 11 documents what two releases of one library agree to, for values up to 1; larger ones are held
    to it relatively. In single precision another order of the same sums may differ by as much as the golden results
    themselves differ from double precision, times a small factor: the worst of them counts for all, since one is made
    from the other. No result may be further off than half a percent.

    Args:
        expected: golden results.
        exact: the same in double precision.
        documented: what section 11 says.
    """
    sizes = {name: float(value.abs().max()) if value.numel() else 0.0 for name, value in exact.items()}
    known = [name for name in expected if sizes[name] > ZERO_IN_THEORY * max(sizes.values())]
    scales = {name: max(1.0, sizes[name]) for name in expected}
    noise = max((difference(expected[name], exact[name]) / scales[name] for name in known), default=0.0)
    return {name: min(max(documented, NOISE_FACTOR * noise), LARGEST_NOISE) * scale for name, scale in scales.items()}
