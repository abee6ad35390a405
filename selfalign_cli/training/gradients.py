"""Gradients of a whole batch: encoded at once or in chunks, by one process or by several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from selfalign_cli import parallel
from selfalign_cli.encodings import Encoding, PairBatch
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel

T = TypeVar("T")
Sides = tuple[Encoding, Encoding]
"""Pictures and captions of the same pairs."""


def backward(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, pairs: int, warmup: bool, chunk_size: int | None
) -> dict[str, Tensor]:
    """Add the gradient of a batch to all parameters, and return the loss terms with their `total`.

    The terms, and the gradients once they are added up over the processes, are those of the whole batch.

    Args:
        model, objective: in training mode.
        batch: the pairs of this process.
        pairs: number of pairs of all processes.
        warmup: hinge on the mean violation.
        chunk_size: most pairs that are encoded at once, see `_in_chunks`; None encodes all.
    """
    parts = 1 if chunk_size is None else _chunks(pairs, chunk_size)
    way = _at_once if parts == 1 else _in_chunks(parts)
    terms, own = way(model, objective, batch, pairs, warmup)
    parallel.all_reduce(list(own.values()))
    _add_up_gradients(model, objective)
    return {name: term.detach() for name, term in objective.with_total({**terms, **own}).items()}


def _at_once(
    model: RetrievalModel, objective: Objective, batch: PairBatch, pairs: int, warmup: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    images, texts = model.encode_image(batch.images), model.encode_text(batch.texts)
    index = parallel.gather_rows(batch.images.index, pairs)
    terms = objective.among_pairs(*_gathered((images, texts), pairs), index, warmup=warmup)
    own = objective.of_each_pair(images, batch, pairs=pairs)
    objective.with_total({**terms, **own})["total"].backward()  # type: ignore[no-untyped-call]
    return terms, {name: term.detach() for name, term in own.items()}


def _chunks(pairs: int, size: int) -> int:
    """Number of chunks that a process cuts its pairs into: the same in all processes, and none of a single pair.

    A process has pairs / R pairs, rounded up or down. Of a single pair there is nothing to normalise by; three in
    chunks of two stay together.
    """
    most, least = ceil(pairs / parallel.world_size()), pairs // parallel.world_size()
    return max(1, min(ceil(most / size), least // 2))


def _in_chunks(number: int) -> Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Gradient caching (arXiv 2101.06983): memory for one chunk's graph and for the whole batch's encodings.

    All pairs are encoded without a graph; the losses of the whole batch give the gradient of every encoding; then each
    chunk is encoded again, with the same random numbers, and takes its part of that gradient to the parameters. The
    result is the gradient of the whole batch, but that batch normalisation knows the statistics of a chunk only; its
    running values move once for each chunk.
    """

    def way(
        model: RetrievalModel, objective: Objective, batch: PairBatch, pairs: int, warmup: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        parts = _split(batch, number)
        random, encoded = [], []
        with torch.no_grad():
            for part in parts:
                random.append(_RandomState(part))
                encoded.append(_read_by_losses((model.encode_image(part.images), model.encode_text(part.texts))))
        whole: Sides = _joined(encoded)
        leaves = _mapped(whole, lambda value: value.requires_grad_() if value.is_floating_point() else value)
        index = parallel.gather_rows(batch.images.index, pairs)
        terms = objective.among_pairs(*_gathered(leaves, pairs), index, warmup=warmup)
        objective.with_total(terms)["total"].backward()  # type: ignore[no-untyped-call]
        own: dict[str, Tensor] = {}
        with _running_values_kept(model):
            for part, state, rows in zip(parts, random, _spans(parts), strict=True):
                with state.again():
                    images, texts = model.encode_image(part.images), model.encode_text(part.texts)
                    term = objective.of_each_pair(images, part, pairs=pairs)
                _hand_on(objective, _read_by_losses((images, texts)), leaves, rows, term)
                own = {name: own[name] + value.detach() if own else value.detach() for name, value in term.items()}
        return terms, own

    return way


def _hand_on(objective: Objective, part: Sides, leaves: Sides, rows: slice, own: dict[str, Tensor]) -> None:
    """Take a chunk's part of the gradient of all encodings on to the parameters, and that of its own terms."""
    ends, gradients = [], []
    for end, leaf in zip(_tensors(part), _tensors(leaves), strict=True):
        if end.requires_grad and leaf.grad is not None:
            ends.append(end)
            gradients.append(leaf.grad[rows])
    if own:
        ends.append(objective.with_total(own)["total"])
        gradients.append(torch.ones_like(ends[-1]))
    torch.autograd.backward(ends, gradients)


class _RandomState:
    """The random numbers from here on, to be drawn twice."""

    def __init__(self, batch: PairBatch) -> None:
        self.devices = [batch.images.features.device] if batch.images.features.is_cuda else []
        self.cpu, self.cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def again(self) -> Iterator[None]:
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


def _add_up_gradients(model: RetrievalModel, objective: Objective) -> None:
    """Add up what each process has of the gradient.

    Prototypes are read by the losses of the whole batch alone, so that every process has all of their gradient.
    """
    if parallel.world_size() == 1:
        return
    if objective.concept is not None and objective.concept.prototypes.grad is not None and parallel.rank() > 0:
        objective.concept.prototypes.grad.zero_()
    parameters = [*model.parameters(), *objective.parameters()]
    parallel.all_reduce([parameter.grad for parameter in parameters if parameter.grad is not None])


def _read_by_losses(sides: Sides) -> Sides:
    """Both sides with nothing in place of what `Objective.among_pairs` does not read."""

    def reduced(side: Encoding) -> Encoding:
        none = side.host.pooled.new_empty(len(side.host.pooled), 0)
        host = replace(side.host, pooled=none, states=none, regions=None)
        context = side.context and replace(side.context, context=none, mean_local=none)
        return replace(side, host=host, context=context)

    return reduced(sides[0]), reduced(sides[1])


def _gathered(sides: Sides, pairs: int) -> Sides:
    """Both sides of all processes, in the order of the whole batch."""
    if parallel.world_size() == 1:
        return sides
    return _mapped(_read_by_losses(sides), lambda value: parallel.gather_rows(value, pairs))


def _split(batch: PairBatch, parts: int) -> list[PairBatch]:
    """Cut a batch into so many parts of nearly equal size."""
    cut = [value.tensor_split(parts) for value in _tensors(batch)]
    return [_with_tensors(batch, pieces) for pieces in zip(*cut, strict=True)]


def _spans(parts: Sequence[PairBatch]) -> list[slice]:
    ends = torch.tensor([len(part.captions) for part in parts]).cumsum(0).tolist()
    return [slice(end - len(part.captions), end) for end, part in zip(ends, parts, strict=True)]


def _joined(parts: Sequence[T]) -> T:
    """Parts of a batch as one."""
    return _with_tensors(parts[0], [torch.cat(pieces) for pieces in zip(*map(_tensors, parts), strict=True)])


def _with_tensors(tree: T, tensors: Iterable[Tensor]) -> T:
    """The same dataclasses with other tensors."""
    others = iter(tensors)
    return _mapped(tree, lambda _: next(others))


def _tensors(tree: Any) -> list[Tensor]:
    """All tensors of dataclasses in dataclasses, in the order of their fields."""
    found: list[Tensor] = []

    def take(value: Tensor) -> Tensor:
        found.append(value)
        return value

    _mapped(tree, take)
    return found


def _mapped(tree: T, change: Callable[[Tensor], Tensor]) -> T:
    """Apply a function to all tensors of dataclasses in dataclasses, in the order of their fields."""
    if isinstance(tree, Tensor):
        return change(tree)  # type: ignore[return-value]
    if isinstance(tree, tuple):
        return tuple(_mapped(part, change) for part in tree)  # type: ignore[return-value]
    if not is_dataclass(tree):
        return tree
    return replace(tree, **{f.name: _mapped(getattr(tree, f.name), change) for f in fields(tree)})  # type: ignore[type-var]
