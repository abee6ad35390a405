"""Cost and savings of gradient caching: memory and time of a step by batch size, whole and in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from selfalign_cli.bench.inputs import SIZES, TINY, ModelSize, build, pair_batch
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Sample, Setting, Work, alternate, peak_extra
from selfalign_cli.bench.report import Line
from selfalign_cli.training.step import train_step

BATCHES = {"tiny": (4, 8), "small": (64, 128, 256, 512), "published": (32, 64, 128, 256)}
CHUNK = {"tiny": 2, "small": 32, "published": 32}


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `inputs.SIZES`, with several batch sizes.

    Returns:
        The dimensions, and a line for each batch size: in chunks, and as plain the whole batch at once.
    """
    lines, chunk = [], CHUNK[name]
    for batch in BATCHES[name]:
        size = replace(SIZES[name], batch=batch)
        notify(f"a step of {batch} pairs")
        variants = {"chunks": step(size, chunk, setting), "whole": step(size, None, setting)}
        seconds = alternate(variants, setting)
        del variants
        samples = [Sample(step, (TINY, 2, setting), (size, some, setting)) for some in (chunk, None)]
        memory = peak_extra(samples, setting)
        note = f"plain: the whole batch at once; memory beyond model and optimizer, {chunk} pairs in a chunk"
        line = Line(
            f"step of {batch} pairs in chunks of {chunk}",
            seconds["chunks"],
            plain=seconds["whole"],
            memory=memory[0],
            plain_memory=memory[1],
            note=note,
        )
        lines.append(line)
    return asdict(SIZES[name]), lines


def step(size: ModelSize, chunk: int | None, setting: Setting) -> Work:
    """One optimizer step after another, on the same batch."""
    trained, batch = build(size, setting.device), pair_batch(size).to(setting.device)

    def work() -> None:
        train_step(
            trained.model,
            trained.objective,
            trained.optimizer,
            trained.groups,
            batch,
            grad_clip_norm=2.0,
            chunk_size=chunk,
        )
        trained.optimizer.zero_grad()

    work()  # creates Adam's moments, which must not count
    return work
