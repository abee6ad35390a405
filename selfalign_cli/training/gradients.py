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

    The terms, and the gradients after their all-reduce, are those of the whole batch.

    Args:
        model, objective: in training mode.
        batch: the pairs of this process.
        pairs: number of pairs of all processes.
        warmup: in the warm-up epochs.
        chunk_size: most pairs that are encoded at once, see `_in_chunks`; None encodes all.
    """
    parts = 1 if chunk_size is None else _chunks(pairs, chunk_size)
    if parts == 1:
        terms, own = _at_once(model, objective, batch, pairs=pairs, warmup=warmup)
    else:
        terms, own = _in_chunks(model, objective, batch, parts=parts, pairs=pairs, warmup=warmup)
    parallel.all_reduce(list(own.values()))
    _all_reduce_gradients(model, objective)
    return {name: term.detach() for name, term in objective.with_total({**terms, **own}).items()}


def _at_once(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, pairs: int, warmup: bool
) -> tuple[Terms, Terms]:
    """Terms among all pairs of the batch, and the sums of single pairs of this process."""
    encoded = _encode(model, batch)
    whole = _gather(encoded.read(objective.reads_among_pairs), pairs)
    terms = objective.among_pairs(whole, warmup=warmup)
    own = objective.of_each_pair(encoded.read(objective.reads_of_each_pair), pairs=pairs, warmup=warmup)
    objective.with_total({**terms, **own})["total"].backward()  # type: ignore[no-untyped-call]
    return terms, {name: term.detach() for name, term in own.items()}


def _in_chunks(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, parts: int, pairs: int, warmup: bool
) -> tuple[Terms, Terms]:
    """Gradient caching (arXiv 2101.06983): memory for one chunk's graph and for the whole batch's encodings.

    All pairs are encoded without a graph; the losses of the whole batch give the gradient of every encoding; then each
    chunk is encoded again, with the same random numbers, and takes its part of that gradient to the parameters. The
    result is the gradient of the whole batch, but that batch normalisation knows the statistics of a chunk only; its
    running values move once for each chunk.
    """
    spans = _spans(len(batch.captions), parts)
    names = objective.reads_among_pairs
    random, encoded = [], []
    with torch.no_grad():
        for rows in spans:
            random.append(_RandomState(batch))
            encoded.append(_encode(model, batch.rows(rows)).read(names))
    leaves = {name: torch.cat([part[name] for part in encoded]) for name in names}
    for leaf in leaves.values():
        leaf.requires_grad_(leaf.is_floating_point())
    terms = objective.among_pairs(_gather(leaves, pairs), warmup=warmup)
    objective.with_total(terms)["total"].backward()  # type: ignore[no-untyped-call]
    own: Terms = {}
    with _running_values_kept(model):
        for rows, state in zip(spans, random, strict=True):
            with state.restored():
                again = _encode(model, batch.rows(rows))
                read = again.read(objective.reads_of_each_pair)
                of_chunk = objective.of_each_pair(read, pairs=pairs, warmup=warmup)
            _backward_of_chunk(objective, again.read(names), leaves, rows, of_chunk)
            own = {name: own[name] + term.detach() if own else term.detach() for name, term in of_chunk.items()}
    return terms, own


def _backward_of_chunk(
    objective: Objective, chunk: Mapping[str, Tensor], leaves: Mapping[str, Tensor], rows: slice, own: Terms
) -> None:
    """Take a chunk's part of the gradient of all encodings on to the parameters, and that of its own terms."""
    outputs, gradients = [], []
    for name, leaf in leaves.items():
        if chunk[name].requires_grad and leaf.grad is not None:
            outputs.append(chunk[name])
            gradients.append(leaf.grad[rows])
    if own:
        outputs.append(objective.with_total(own)["total"])
        gradients.append(torch.ones_like(outputs[-1]))
    torch.autograd.backward(outputs, gradients)


def _encode(model: RetrievalModel, batch: PairBatch) -> EncodedBatch:
    return EncodedBatch(model.encode_image(batch.images), model.encode_text(batch.texts), batch)


def _gather(tensors: Mapping[str, Tensor], pairs: int) -> dict[str, Tensor]:
    """The rows of all processes, in the order of the whole batch."""
    return {name: parallel.gather_rows(value, pairs) for name, value in tensors.items()}


def _all_reduce_gradients(model: RetrievalModel, objective: Objective) -> None:
    """Replace the gradients of each process by their sums.

    Terms of the whole batch are computed by every process, so that each has all of the gradient of what they train: it
    counts once.
    """
    if parallel.rank() > 0:
        for parameter in objective.parameters_among_pairs():
            if parameter.grad is not None:
                parameter.grad.zero_()
    parameters = [*model.parameters(), *objective.parameters()]
    parallel.all_reduce([parameter.grad for parameter in parameters if parameter.grad is not None])


def _chunks(pairs: int, size: int) -> int:
    """Number of chunks that a process cuts its pairs into: the same in all processes, and none of a single pair.

    A process has pairs / R pairs, rounded up or down. Of a single pair there is nothing to normalise by; three in
    chunks of two stay together.
    """
    most, least = ceil(pairs / parallel.world_size()), pairs // parallel.world_size()
    return max(1, min(ceil(most / size), least // 2))


def _spans(pairs: int, parts: int) -> list[slice]:
    """So many consecutive parts of nearly equal size, the larger ones first."""
    size, larger = divmod(pairs, parts)
    ends = [size * (part + 1) + min(part + 1, larger) for part in range(parts)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


class _RandomState:
    """The random numbers from here on, to be drawn twice."""

    def __init__(self, batch: PairBatch) -> None:
        self.devices = [batch.images.features.device] if batch.images.features.is_cuda else []
        self.cpu, self.cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Draw them again; afterwards go on where the first drawing ended."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


@contextmanager
def _running_values_kept(model: nn.Module) -> Iterator[None]:
    """Undo what encoding once more does to running values."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    for buffer, value in kept:
        buffer.copy_(value)
