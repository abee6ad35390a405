"""The outcome of a training run, which must be the same for equal runs; and differences of two outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

UNTIMED = {"seconds"}
"""Fields of a line of metrics.jsonl that differ between equal runs."""
FREE = (("data", "workers"), ("optim", "epochs"))
"""Keys of the recipe that may change when a run is resumed, and are changed to test that."""


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, times aside."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in UNTIMED} for line in lines]


def outcome(run: Path) -> dict[str, Any]:
    """All that must be the same for two equal runs: the log, and the content of their checkpoints.

    Args:
        run: the folder of a complete run.
    """
    last, best = (torch.load(run / name, weights_only=True) for name in ("last.ckpt", "best.ckpt"))
    del last["training"]["log_bytes"]  # counts the digits of `seconds`
    for checkpoint in (last, best):
        for section, key in FREE:
            del checkpoint["recipe"][section][key]
    return {"metrics": metrics_of(run), "last": last, "best": best}


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Paths at which two nested structures of tensors and plain values differ, by as little as one bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if _same_bits(first, second) else [path]
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [fault for key in first for fault in differences(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [fault for row in range(len(first)) for fault in differences(first[row], second[row], f"{path}/{row}")]
    same = type(first) is type(second) and first == second
    return [] if same else [f"{path}: {first!r:.80} {second!r:.80}"]


def _same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.contiguous().numpy().tobytes() == second.contiguous().numpy().tobytes()
    )
