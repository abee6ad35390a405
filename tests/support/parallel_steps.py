"""Take some optimizer steps in all processes of a `torchrun`, or in one, and save terms and weights.

python -m support.parallel_steps HOST PAIRS CHUNK_SIZE OUT
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from support import tiny_models
from support.new_terms import with_new_terms

from selfalign_cli import parallel
from selfalign_cli.assembly.optimizer import build_optimizer
from selfalign_cli.encodings import PairBatch
from selfalign_cli.training.step import train_step

STEPS = 5
RATE = "optim.learning_rate=0.001"
HOSTS = {
    "vsrn": (tiny_models.VSRN, RATE),
    "camera": (tiny_models.CAMERA, RATE, "model.dropout=0.0"),
    "published vsrn": (tiny_models.VSRN, RATE, "compat=published"),
    "vse_infty": (
        tiny_models.VSE_INFTY,
        RATE,
        "optim.weight_decay=0.01",
        "loss.ranking={kind: sigmoid, reduction: mean}",
    ),
    "new terms": (tiny_models.VSRN, RATE),
}


def whole_batch(step: int, pairs: int) -> PairBatch:
    """Pairs of different sizes; some show the same picture."""
    counts = [2 + (7 * row + step) % 5 for row in range(pairs)]
    lengths = sorted((4 + (5 * row + step) % 6 for row in range(pairs)), reverse=True)
    batch = tiny_models.pairs(counts, lengths)
    index = torch.arange(pairs) // 2
    return replace(batch.to("cpu", torch.float64), images=replace(batch.to("cpu", torch.float64).images, index=index))


def main(host: str, pairs: str, chunk_size: str, out: str) -> None:
    text, *overrides = HOSTS[host]
    with parallel.process_group():
        tiny = tiny_models.build_tiny(text, *overrides, dtype=torch.float64).train()
        if host == "new terms":
            tiny = with_new_terms(tiny)
        optimizer = build_optimizer(tiny.recipe, tiny.groups)
        terms = []
        for step in range(STEPS):
            batch = whole_batch(step, int(pairs))
            found = train_step(
                tiny.model,
                tiny.objective,
                optimizer,
                tiny.groups,
                batch.rows(parallel.shard()),
                pairs=len(batch.captions),
                chunk_size=int(chunk_size) or None,
                grad_clip_norm=2.0,
            )
            terms.append(found)
        first = parallel.rank() == 0
    if first:
        state = {**tiny.model.state_dict(), **tiny.objective.state_dict()}
        threads = len(os.listdir("/proc/self/task"))
        torch.save({"state": state, "terms": terms, "threads": threads}, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
