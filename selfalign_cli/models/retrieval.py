"""The whole retrieval model: an image encoder, a text encoder, and SelfAlign on top of both."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from selfalign_cli.encodings import Encoding, HostEncoding, ImageBatch, RetrievalVectors, TextBatch
from selfalign_cli.models.selfalign import SelfAlign
from selfalign_cli.models.token_encoder import TokenEncoder


class RetrievalModel(nn.Module):
    """Two encoders that never see each other, so that a search is one inner product.

    Args:
        image: ImageBatch -> HostEncoding with pooled (B, V, D).
        text: TextBatch -> HostEncoding with pooled (B, D).
        selfalign: the context module; None for the host alone.
        token_encoder: what gives the captions their token states; None for a text encoder that reads token ids.
    """

    def __init__(
        self,
        image: nn.Module,
        text: nn.Module,
        selfalign: SelfAlign | None,
        token_encoder: TokenEncoder | None = None,
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.selfalign = selfalign
        self.token_encoder = token_encoder
        if token_encoder is not None:
            text.add_module("bert", token_encoder.bert)  # checkpoints hold its weights as text.bert.*

    def train(self, mode: bool = True) -> RetrievalModel:
        """Switch between training and evaluation; the token encoder decides about its own mode (M5)."""
        super().train(mode)
        if self.token_encoder is not None:
            self.token_encoder.train(mode)
        return self

    def encode_image(self, images: ImageBatch) -> Encoding:
        """Encode B pictures; features in half precision, as a file may store them, are widened here."""
        widened = images.features.to(next(self.image.parameters()).dtype)
        host: HostEncoding = self.image(replace(images, features=widened))
        if self.selfalign is None:
            return Encoding(host, None, RetrievalVectors(host.pooled, _empty_block(host.pooled)))
        return Encoding(host, *self.selfalign.encode_image(host))

    def encode_text(self, texts: TextBatch) -> Encoding:
        """Encode B captions."""
        if self.token_encoder is not None:
            texts = replace(texts, states=self.token_encoder.states(texts))
        host: HostEncoding = self.text(texts)
        if self.selfalign is None:
            return Encoding(host, None, RetrievalVectors(host.pooled, _empty_block(host.pooled)))
        return Encoding(host, *self.selfalign.encode_text(host))


def _empty_block(pooled: Tensor) -> Tensor:
    return pooled.new_zeros(len(pooled), 0)
