"""The whole training loss on one screen: every term, its weight, its name in the log (MODELS.md 2.4 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from selfalign_cli.encodings import ContextEncoding, Encoding, PairBatch
from selfalign_cli.losses.captioning import captioning_loss
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.context import context_alignment_loss
from selfalign_cli.losses.diversity import diversity_loss
from selfalign_cli.losses.ranking import HingeMode, hinge_loss
from selfalign_cli.models.parts.captioner import CaptionGenerator, caption_targets
from selfalign_cli.similarity import similarity


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms in the total; 0 leaves a term out altogether.

    Attributes:
        concept: on the concept loss.
        context: on the mean of both context losses.
        captioning: on the caption generator's loss.
        diversity: on the view penalty.
    """

    concept: float = 0.0
    context: float = 0.0
    captioning: float = 0.0
    diversity: float = 0.0


@dataclass(frozen=True)
class RankingOptions:
    """How the hinge is taken; see `hinge_loss` and `similarity`."""

    margin: float = 0.2
    hardest_negative: bool = True
    similarity: Literal["dot", "order"] = "dot"
    reduction: Literal["sum", "mean"] = "sum"


@dataclass(frozen=True)
class ContextOptions:
    """How the context losses are taken; see `context_alignment_loss`."""

    image_temperature: float = 0.7
    text_temperature: float = 0.7
    negatives: int | None = 512
    exclude_own: bool = True


class Objective(nn.Module):
    """Ranking hinge, plus the weighted terms that are switched on. Holds what only training needs.

    Args:
        weights: factors of the terms.
        ranking, context: options of these terms.
        concept: prototypes and their loss, or None.
        captioner: VSRN's caption generator, or None.
        same_image_negatives: captions of one picture count as each other's negatives (M7).
        diversity_reduction: sum over the batch as published, or mean (M12).
    """

    def __init__(
        self,
        weights: LossWeights,
        *,
        ranking: RankingOptions,
        context: ContextOptions,
        concept: ConceptAlignment | None,
        captioner: CaptionGenerator | None,
        same_image_negatives: bool = False,
        diversity_reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        self.weights = weights
        self.ranking = ranking
        self.context = context
        self.concept = concept
        self.captioner = captioner
        self.same_image_negatives = same_image_negatives
        self.diversity_reduction: Literal["sum", "mean"] = diversity_reduction

    def forward(self, images: Encoding, texts: Encoding, batch: PairBatch, *, warmup: bool) -> dict[str, Tensor]:
        """Compute every term, unweighted, and their weighted sum under the name `total`.

        Args:
            images, texts: the encoded sides of the batch.
            batch: the batch itself, for picture identities and caption ids.
            warmup: take the mean violation in place of the hardest.
        """
        terms = self.among_pairs(images, texts, batch.images.index, warmup=warmup)
        return self.with_total({**terms, **self.of_each_pair(images, batch, pairs=len(batch.captions))})

    def among_pairs(self, images: Encoding, texts: Encoding, index: Tensor, *, warmup: bool) -> dict[str, Tensor]:
        """The terms that hold pairs against each other, or add up over them at little cost.

        Args:
            images, texts: both sides of the whole batch; `host.states` and `host.regions` are not read.
            index: (B,) which picture a pair shows.
            warmup: take the mean violation in place of the hardest.

        Returns:
            Scalars by name.
        """
        same = self._same_picture(index)
        terms = {"ranking": self._ranking(images, texts, same, warmup)}
        if self.weights.concept and self.concept is not None:
            terms["concept"] = self.concept(
                images.host.concepts, images.host.mask, texts.host.concepts, texts.host.mask
            )
        if self.weights.context and images.context is not None and texts.context is not None:
            terms.update(self._context(images.context, texts.context, same))
        if self.weights.diversity and images.host.view_logits is not None:
            terms["diversity"] = diversity_loss(
                images.host.view_logits, images.host.mask, reduction=self.diversity_reduction
            )
        return terms

    def of_each_pair(self, images: Encoding, batch: PairBatch, *, pairs: int) -> dict[str, Tensor]:
        """The term that looks at one pair at a time: `batch` may be a part of a whole batch of `pairs` pairs.

        Args:
            images: the encoded pictures of `batch`; `host.regions` is (B, R, D).
            batch: B pairs, for their caption ids.
            pairs: number that the sum over pairs is divided by.

        Returns:
            `captioning`, a scalar, or nothing where there is no caption generator.
        """
        if not self.weights.captioning or self.captioner is None or images.host.regions is None:
            return {}
        labels = caption_targets(batch.texts.ids, batch.texts.lengths, self.captioner.max_len)
        predictions = self.captioner(images.host.regions, images.host.mask, *labels)
        return {"captioning": captioning_loss(*predictions, captions=pairs)}

    def with_total(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the weighted sum of some scalar terms, under the name `total`: a scalar too."""
        factors = {
            "ranking": 1.0,
            "concept": self.weights.concept,
            "context_image": self.weights.context / 2,
            "context_text": self.weights.context / 2,
            "captioning": self.weights.captioning,
            "diversity": self.weights.diversity,
        }
        total = torch.stack([factors[name] * term for name, term in terms.items()]).sum()
        return {**terms, "total": total}

    def _context(self, image: ContextEncoding, text: ContextEncoding, same: Tensor | None) -> dict[str, Tensor]:
        """The context losses of both sides: the guide of one, the locals of the other."""
        sides = {
            "context_image": (text.guide, image, self.context.image_temperature),
            "context_text": (image.guide, text, self.context.text_temperature),
        }
        return {
            name: context_alignment_loss(
                guide,
                key.locals,
                temperature=temperature,
                negatives=self.context.negatives,
                mask=key.mask,
                exclude_own=self.context.exclude_own,
                same=same,
            )
            for name, (guide, key, temperature) in sides.items()
        }

    def _ranking(self, images: Encoding, texts: Encoding, same: Tensor | None, warmup: bool) -> Tensor:
        scores = similarity(images.vectors, texts.vectors, self.ranking.similarity)
        mode: HingeMode = "hardest" if self.ranking.hardest_negative else "sum"
        loss = hinge_loss(scores, margin=self.ranking.margin, mode="mean" if warmup else mode, same=same)
        return loss if self.ranking.reduction == "sum" else loss / len(scores)

    def _same_picture(self, index: Tensor) -> Tensor | None:
        """(B, B) bool, True where two pairs show the same picture; None when such pairs are negatives too."""
        return None if self.same_image_negatives else torch.eq(index.unsqueeze(0), index.unsqueeze(1))
