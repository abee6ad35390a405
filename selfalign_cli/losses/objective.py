"""The training loss as a list of terms; `assembly.objective` lists those of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from selfalign_cli.encodings import EncodedBatch, Encoding, PairBatch


@dataclass(frozen=True)
class Term:
    """One term of the loss. Its function gets the tensors that it names, and no others.

    Attributes:
        name: in the log.
        weight: factor in the total; 0 leaves the term out, and its parameters at their initial values.
        weight_key: recipe key of the weight; None if the weight is fixed.
        function: tensors and settings -> a scalar.
        reads: for each tensor argument of `function`, the path of the tensor (see `EncodedBatch.read`).
        settings: the other arguments of `function`.
        warmup: settings that differ in the warm-up epochs.
        per_pair: the term is a sum over pairs of values that depend on one pair each, divided by the argument `pairs`,
            so it may be computed for a part of the batch. Otherwise `function` is given the whole batch.
    """

    name: str
    weight: float
    weight_key: str | None
    function: Callable[..., Tensor]
    reads: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    warmup: Mapping[str, Any] = field(default_factory=dict)
    per_pair: bool = False

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Modules of the term by name in checkpoints: the name of the term for its function, the key of a setting."""
        named = {self.name: self.function, **self.settings}
        return {name: value for name, value in named.items() if isinstance(value, nn.Module)}

    def value(self, tensors: Mapping[str, Tensor], *, pairs: int | None = None, warmup: bool = False) -> Tensor:
        """Compute the unweighted term.

        Args:
            tensors: by path; others than those of `reads` are ignored.
            pairs: number of pairs in the whole batch, needed by a per-pair term.
            warmup: whether this is a warm-up epoch.
        """
        settings = {**self.settings, **(self.warmup if warmup else {})}
        if self.per_pair:
            settings["pairs"] = pairs
        return self.function(**{name: tensors[path] for name, path in self.reads.items()}, **settings)


class Objective(nn.Module):
    """The weighted sum of some terms, with the modules that only training needs.

    Args:
        terms: in the order in which they are logged and added up, per-pair terms after the others.

    Attributes:
        terms: those of non-zero weight, by name.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.terms = {term.name: term for term in terms if term.weight}
        if len({term.name for term in terms}) < len(terms):
            raise ValueError(f"two terms have the same name: {[term.name for term in terms]}")
        for name, module in (item for term in terms for item in term.modules.items()):
            if getattr(self, name, module) is not module:
                raise ValueError(f"two modules would have the same name in a checkpoint: {name}")
            self.add_module(name, module)
        if set(self._parameters_of(per_pair=False)) & set(self._parameters_of(per_pair=True)):
            raise ValueError("a per-pair term shares parameters with a term of the whole batch")

    def forward(self, images: Encoding, texts: Encoding, batch: PairBatch, *, warmup: bool) -> dict[str, Tensor]:
        """Compute every term, unweighted, and their weighted sum under the name `total`.

        Args:
            images, texts: the encoded sides of the batch.
            batch: the batch itself.
            warmup: whether this is a warm-up epoch.
        """
        encoded = EncodedBatch(images, texts, batch)
        terms = self.batch_terms(encoded.read(self.batch_reads), warmup=warmup)
        per_pair = self.per_pair_terms(encoded.read(self.per_pair_reads), pairs=len(batch.captions), warmup=warmup)
        return self.with_total({**terms, **per_pair})

    def batch_terms(self, tensors: Mapping[str, Tensor], *, warmup: bool) -> dict[str, Tensor]:
        """Compute the terms that need the whole batch: scalars by name, from `batch_reads` of all pairs."""
        return {term.name: term.value(tensors, warmup=warmup) for term in self._terms(per_pair=False)}

    def per_pair_terms(self, tensors: Mapping[str, Tensor], *, pairs: int, warmup: bool) -> dict[str, Tensor]:
        """Compute the per-pair terms: scalars by name, from `per_pair_reads` of some of `pairs` pairs."""
        return {term.name: term.value(tensors, pairs=pairs, warmup=warmup) for term in self._terms(per_pair=True)}

    def with_total(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the weighted sum of some scalar terms, under the name `total`: a scalar too."""
        total = torch.stack([self.terms[name].weight * term for name, term in terms.items()]).sum()
        return {**terms, "total": total}

    @property
    def batch_reads(self) -> list[str]:
        """Paths of all tensors that the terms of the whole batch read."""
        return self._reads(per_pair=False)

    @property
    def per_pair_reads(self) -> list[str]:
        """Paths of all tensors that per-pair terms read."""
        return self._reads(per_pair=True)

    def batch_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the terms that need the whole batch."""
        return self._parameters_of(per_pair=False)

    def _parameters_of(self, *, per_pair: bool) -> Iterator[nn.Parameter]:
        modules = (module for term in self._terms(per_pair=per_pair) for module in term.modules.values())
        return (parameter for module in modules for parameter in module.parameters())

    def _reads(self, *, per_pair: bool) -> list[str]:
        paths = (path for term in self._terms(per_pair=per_pair) for path in term.reads.values())
        return list(dict.fromkeys(paths))

    def _terms(self, *, per_pair: bool) -> list[Term]:
        return [term for term in self.terms.values() if term.per_pair == per_pair]
