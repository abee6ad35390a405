"""How much of the gradient each term of the loss is, on weights that the terms share: those of the two encoders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selfalign_cli import parallel
from selfalign_cli.encodings import EncodedBatch, PairBatch
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel


def gradient_shares(
    model: RetrievalModel, objective: Objective, batch: PairBatch, *, pairs: int, chunk_size: int | None, warmup: bool
) -> dict[str, float]:
    """Compare the lengths of the weighted gradients of all terms; they add up to 1.

    It is one more forward pass, and a backward pass for each term. Nothing that training depends on changes: weights,
    running statistics and random numbers are what they were.

    Args:
        model, objective: in training mode.
        batch: the pairs of this process; every process takes part.
        pairs: number of pairs of all processes.
        chunk_size: most pairs to look at, the first ones; None for all.
        warmup: whether this is a warm-up epoch.

    Returns:
        A share by name of the term; nothing when there is only one.
    """
    if len(objective.terms) < 2:
        return {}
    processes = parallel.world_size()
    own = min(pairs, chunk_size or pairs) // processes
    if own == 0:
        return {}
    shared = [value for side in (model.image, model.text) for value in side.parameters() if value.requires_grad]
    with _unnoticed(model, objective, batch.images.features.device):
        terms = _terms(model, objective, batch.rows(slice(0, own)), own * processes, warmup)
        weighted = [objective.terms[name].weight * term for name, term in terms.items()]
        lengths = torch.stack([_length(term, shared) for term in weighted])
    shares = (lengths / lengths.sum().clamp(min=torch.finfo(lengths.dtype).tiny)).tolist()
    return dict(zip(terms, shares, strict=True))


def _terms(
    model: RetrievalModel, objective: Objective, batch: PairBatch, pairs: int, warmup: bool
) -> dict[str, Tensor]:
    encoded = EncodedBatch(model.encode_image(batch.images), model.encode_text(batch.texts), batch)
    whole = {name: parallel.gather_rows(value, pairs) for name, value in encoded.read(objective.batch_reads).items()}
    of_pairs = encoded.read(objective.per_pair_reads)
    return {
        **objective.batch_terms(whole, warmup=warmup),
        **objective.per_pair_terms(of_pairs, pairs=pairs, warmup=warmup),
    }


def _length(term: Tensor, shared: list[nn.Parameter]) -> Tensor:
    """Length of the gradient of a term, over the rows of all processes."""
    found = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
    gradients = [torch.zeros_like(value) if part is None else part for part, value in zip(found, shared, strict=True)]
    parallel.all_reduce(gradients)
    return torch.stack([part.float().square().sum() for part in gradients]).sum().sqrt()


@contextmanager
def _unnoticed(model: nn.Module, objective: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore random numbers, buffers, and what losses write into their parameters (prototypes of unit length)."""
    kept = [(value, value.detach().clone()) for value in [*model.buffers(), *objective.parameters()]]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for value, before in kept:
            value.copy_(before)
