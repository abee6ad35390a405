"""Gradients of a whole batch: encoded at once or in chunks, by one process or by several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil

import torch
from torch import Tensor, nn

from selfalign_cli import parallel
from selfalign_cli.encodings import EncodedBatch, PairBatch
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel

Terms = dict[str, Tensor]
"""Scalars by name."""


def backward(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, pairs: int, warmup: bool, chunk_size: int | None
) -> Terms:
    """Add the gradient of a batch to all parameters, and return the loss terms with their `total`.

    Both are those of the whole batch, in every process.

    Args:
        model, objective: in training mode.
        batch: the pairs of this process.
        pairs: number of pairs of all processes.
        warmup: whether this is a warm-up epoch.
        chunk_size: most pairs that are encoded at once, see `_in_chunks`; None encodes all.
    """
    parts = 1 if chunk_size is None else _chunks(pairs, chunk_size)
    if parts == 1:
        terms, per_pair = _at_once(model, objective, batch, pairs=pairs, warmup=warmup)
    else:
        terms, per_pair = _in_chunks(model, objective, batch, parts=parts, pairs=pairs, warmup=warmup)
    parallel.all_reduce(list(per_pair.values()))
    _all_reduce_gradients(model, objective)
    return {name: term.detach() for name, term in objective.with_total({**terms, **per_pair}).items()}


def _at_once(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, pairs: int, warmup: bool
) -> tuple[Terms, Terms]:
    """Return the terms of the whole batch, and the per-pair terms of the pairs of this process."""
    encoded = _encode(model, batch)
    whole = _gather(encoded.read(objective.batch_reads), pairs)
    terms = objective.batch_terms(whole, warmup=warmup)
    per_pair = objective.per_pair_terms(encoded.read(objective.per_pair_reads), pairs=pairs, warmup=warmup)
    objective.with_total({**terms, **per_pair})["total"].backward()  # type: ignore[no-untyped-call]
    return terms, {name: term.detach() for name, term in per_pair.items()}


def _in_chunks(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, parts: int, pairs: int, warmup: bool
) -> tuple[Terms, Terms]:
    """Like `_at_once`, by gradient caching (arXiv 2101.06983): memory for the graph of one chunk only.

    All pairs are encoded without a graph; the losses of the whole batch give the gradient with respect to every
    encoding; then each chunk is encoded again, with the same random numbers, and its part of that gradient is
    propagated to the parameters. The result is the gradient of the whole batch, except that batch normalisation uses
    the statistics of each chunk; its running statistics are updated once per chunk.
    """
    spans = _spans(len(batch.captions), parts)
    names = objective.batch_reads
    random, encoded = [], []
    with torch.no_grad():
        for rows in spans:
            random.append(_RandomState(batch))
            encoded.append(_encode(model, batch.rows(rows)).read(names))
    leaves = {name: torch.cat([part[name] for part in encoded]) for name in names}
    for leaf in leaves.values():
        leaf.requires_grad_(leaf.is_floating_point())
    terms = objective.batch_terms(_gather(leaves, pairs), warmup=warmup)
    objective.with_total(terms)["total"].backward()  # type: ignore[no-untyped-call]
    per_pair: Terms = {}
    with _buffers_restored(model):
        for rows, state in zip(spans, random, strict=True):
            with state.restored():
                again = _encode(model, batch.rows(rows))
                read = again.read(objective.per_pair_reads)
                of_chunk = objective.per_pair_terms(read, pairs=pairs, warmup=warmup)
            _backward_of_chunk(objective, again.read(names), leaves, rows, of_chunk)
            for name, term in of_chunk.items():
                per_pair[name] = per_pair[name] + term.detach() if name in per_pair else term.detach()
    return terms, per_pair


def _backward_of_chunk(
    objective: Objective, chunk: Mapping[str, Tensor], leaves: Mapping[str, Tensor], rows: slice, per_pair: Terms
) -> None:
    """Propagate the gradient of a chunk to the parameters: that of its encodings, and that of its per-pair terms."""
    outputs, gradients = [], []
    for name, leaf in leaves.items():
        if chunk[name].requires_grad and leaf.grad is not None:
            outputs.append(chunk[name])
            gradients.append(leaf.grad[rows])
    if per_pair:
        outputs.append(objective.with_total(per_pair)["total"])
        gradients.append(torch.ones_like(outputs[-1]))
    torch.autograd.backward(outputs, gradients)


def _encode(model: RetrievalModel, batch: PairBatch) -> EncodedBatch:
    return EncodedBatch(model.encode_image(batch.images), model.encode_text(batch.texts), batch)


def _gather(tensors: Mapping[str, Tensor], pairs: int) -> dict[str, Tensor]:
    """Gather the rows of all processes, in the order of the whole batch."""
    return {name: parallel.gather_rows(value, pairs) for name, value in tensors.items()}


def _all_reduce_gradients(model: RetrievalModel, objective: Objective) -> None:
    """Replace the gradients of each process by their sums over the processes.

    Every process computes the terms of the whole batch, and so has the complete gradient of their parameters already:
    it is counted once.
    """
    if parallel.rank() > 0:
        for parameter in objective.batch_parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
    parameters = [*model.parameters(), *objective.parameters()]
    parallel.all_reduce([parameter.grad for parameter in parameters if parameter.grad is not None])


def _chunks(pairs: int, size: int) -> int:
    """Number of chunks per process: the same in all processes, and such that no chunk has a single pair.

    A process has pairs / R pairs, rounded up or down. Batch normalisation needs two pairs at least, so three pairs
    are not split in chunks of two.
    """
    most, least = ceil(pairs / parallel.world_size()), pairs // parallel.world_size()
    return max(1, min(ceil(most / size), least // 2))


def _spans(pairs: int, parts: int) -> list[slice]:
    """Split the pairs into consecutive parts of nearly equal size, larger ones first."""
    size, larger = divmod(pairs, parts)
    ends = [size * (part + 1) + min(part + 1, larger) for part in range(parts)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


class _RandomState:
    """The state of the random number generators, to draw the same numbers twice."""

    def __init__(self, batch: PairBatch) -> None:
        self.devices = [batch.images.features.device] if batch.images.features.is_cuda else []
        self.cpu, self.cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Draw from this state inside; the generators' present state is back afterwards."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


@contextmanager
def _buffers_restored(model: nn.Module) -> Iterator[None]:
    """Undo changes of buffers, such as running statistics."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    for buffer, value in kept:
        buffer.copy_(value)
