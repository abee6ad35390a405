"""The training loss as a list of terms; which they are stands in `assembly.objective`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from selfalign_cli.encodings import EncodedBatch, Encoding, PairBatch


@dataclass(frozen=True)
class Term:
    """One term of the loss. It gets the tensors it names and no others.

    Attributes:
        name: in the log.
        weight: factor in the total; 0 leaves the term out, with what it trains in its start state.
        weight_key: recipe key of the weight; None where there is none.
        function: tensors and settings -> a scalar.
        reads: paths of the tensors, as `EncodedBatch.read` takes them, by the arguments of `function`.
        settings: its other arguments.
        warmup: settings that differ in the warm-up epochs.
        of_each_pair: a sum over pairs of what each has alone, divided by the argument `pairs`: it may then be computed
            for some pairs at a time. Otherwise the function sees the whole batch, wherever that was encoded.
    """

    name: str
    weight: float
    weight_key: str | None
    function: Callable[..., Tensor]
    reads: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    warmup: Mapping[str, Any] = field(default_factory=dict)
    of_each_pair: bool = False

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What it trains, by name in checkpoints: its function under its own name, settings under theirs."""
        named = {self.name: self.function, **self.settings}
        return {name: value for name, value in named.items() if isinstance(value, nn.Module)}

    def value(self, tensors: Mapping[str, Tensor], *, pairs: int | None = None, warmup: bool = False) -> Tensor:
        """Compute the term, unweighted.

        Args:
            tensors: by path, those that the term reads among them.
            pairs: number of pairs in the whole batch, for a term of each pair.
            warmup: in the warm-up epochs.
        """
        settings = {**self.settings, **(self.warmup if warmup else {})}
        if self.of_each_pair:
            settings["pairs"] = pairs
        return self.function(**{name: tensors[path] for name, path in self.reads.items()}, **settings)


class Objective(nn.Module):
    """The weighted sum of some terms. Holds what only training needs.

    Args:
        terms: in the order in which they are logged and added up, those of each pair after the others.

    Attributes:
        terms: those with a weight, by name.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.terms = {term.name: term for term in terms if term.weight}
        if len({term.name for term in terms}) < len(terms):
            raise ValueError(f"two terms of one name: {[term.name for term in terms]}")
        for name, module in (item for term in terms for item in term.modules.items()):
            if getattr(self, name, module) is not module:
                raise ValueError(f"two modules of one name in a checkpoint: {name}")
            self.add_module(name, module)
        if set(self._parameters_of(of_each_pair=False)) & set(self._parameters_of(of_each_pair=True)):
            raise ValueError("a term of each pair shares parameters with one among pairs")

    def forward(self, images: Encoding, texts: Encoding, batch: PairBatch, *, warmup: bool) -> dict[str, Tensor]:
        """Compute every term, unweighted, and their weighted sum under the name `total`.

        Args:
            images, texts: the encoded sides of the batch.
            batch: the batch itself.
            warmup: in the warm-up epochs.
        """
        encoded = EncodedBatch(images, texts, batch)
        terms = self.among_pairs(encoded.read(self.reads_among_pairs), warmup=warmup)
        own = self.of_each_pair(encoded.read(self.reads_of_each_pair), pairs=len(batch.captions), warmup=warmup)
        return self.with_total({**terms, **own})

    def among_pairs(self, tensors: Mapping[str, Tensor], *, warmup: bool) -> dict[str, Tensor]:
        """The terms that need the whole batch, as scalars by name, from `reads_among_pairs` of all its pairs."""
        return {term.name: term.value(tensors, warmup=warmup) for term in self._terms(of_each_pair=False)}

    def of_each_pair(self, tensors: Mapping[str, Tensor], *, pairs: int, warmup: bool) -> dict[str, Tensor]:
        """The terms of single pairs, as scalars by name, from `reads_of_each_pair` of some of `pairs` pairs."""
        return {term.name: term.value(tensors, pairs=pairs, warmup=warmup) for term in self._terms(of_each_pair=True)}

    def with_total(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the weighted sum of some scalar terms, under the name `total`: a scalar too."""
        total = torch.stack([self.terms[name].weight * term for name, term in terms.items()]).sum()
        return {**terms, "total": total}

    @property
    def reads_among_pairs(self) -> list[str]:
        """Paths of all tensors of the whole batch that some term reads."""
        return self._reads(of_each_pair=False)

    @property
    def reads_of_each_pair(self) -> list[str]:
        """Paths of all tensors that some term reads pair by pair."""
        return self._reads(of_each_pair=True)

    def parameters_among_pairs(self) -> Iterator[nn.Parameter]:
        """Parameters whose gradient, wherever it is computed, is that of the whole batch."""
        return self._parameters_of(of_each_pair=False)

    def _parameters_of(self, *, of_each_pair: bool) -> Iterator[nn.Parameter]:
        modules = (module for term in self._terms(of_each_pair=of_each_pair) for module in term.modules.values())
        return (parameter for module in modules for parameter in module.parameters())

    def _reads(self, *, of_each_pair: bool) -> list[str]:
        paths = (path for term in self._terms(of_each_pair=of_each_pair) for path in term.reads.values())
        return list(dict.fromkeys(paths))

    def _terms(self, *, of_each_pair: bool) -> list[Term]:
        return [term for term in self.terms.values() if term.of_each_pair == of_each_pair]
