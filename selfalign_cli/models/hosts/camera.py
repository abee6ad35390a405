"""The CAMERA encoders: gated attention and views over regions; BERT, gated attention and a mean over words."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from selfalign_cli.encodings import HostEncoding, ImageBatch, TextBatch
from selfalign_cli.errors import DataError
from selfalign_cli.models.hosts.vsrn import xavier_linear
from selfalign_cli.models.parts.attention import GatedSelfAttention, ViewSummary
from selfalign_cli.models.parts.norm import MaskedBatchNorm, masked_mean, normalize_places, unit
from selfalign_cli.models.parts.positions import BoxGate

CAPTIONS_TOGETHER = 32
"""Captions that BERT reads at once on a CPU: fewer leave less padding, and smaller products."""


class CameraImageEncoder(nn.Module):
    """Regions and boxes -> gated self-attention -> views. Padded regions never take part.

    Args:
        feature_dim: F, width of detector features.
        embed_dim: D.
        heads: attention heads; they divide D.
        views: V, vectors per picture.
        attention_layers: gated self-attention layers.
        dropout: in the attention layers.
        equal_start: query, key and value maps start as equal copies (M10).
        guard_boxes: bound box heights away from zero (M11).
        normalize_over: axis of the 3-D normalisations (M1).
        bounded_norm: bound their lengths below (M1).
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        embed_dim: int = 2048,
        heads: int = 64,
        views: int = 12,
        attention_layers: int = 1,
        dropout: float = 0.0,
        equal_start: bool = True,
        guard_boxes: bool = True,
        normalize_over: Literal["places", "embedding"] = "places",
        bounded_norm: bool = True,
    ) -> None:
        super().__init__()
        self.normalize_over: Literal["places", "embedding"] = normalize_over
        self.bounded_norm = bounded_norm
        self.fc = xavier_linear(feature_dim, embed_dim)
        self.box_gate = BoxGate(embed_dim, guard=guard_boxes)
        self.attention = GatedSelfAttention(
            embed_dim, heads=heads, layers=attention_layers, dropout=dropout, equal_start=equal_start
        )
        self.summary = ViewSummary(embed_dim, views=views)

    def forward(self, images: ImageBatch) -> HostEncoding:
        """Encode B pictures into V views each.

        Raises:
            DataError: the pictures come without boxes or without their sizes.
        """
        if images.boxes is None or images.size is None:
            raise DataError(
                "CAMERA reads region boxes and picture sizes, and this feature file lacks them",
                "convert features that come with boxes, or train VSRN, which needs none",
            )
        mask = images.mask
        embedded = self._normalize(self.fc(images.features), mask)  # (B, R, D)
        position = self.box_gate(images.boxes, images.size, mask)
        states = self.attention(embedded, position, key_mask=mask, norm_mask=mask)
        views, logits = self.summary(self._normalize(states, mask), mask)
        return HostEncoding(views, unit(embedded), states, mask, extras={"view_logits": logits})

    def _normalize(self, x: Tensor, mask: Tensor) -> Tensor:
        return normalize_places(x, mask, over=self.normalize_over, bounded=self.bounded_norm)


class CameraTextEncoder(nn.Module):
    """BERT's token states -> gated self-attention -> feed-forward -> mean over words.

    Args:
        token_encoder: BERT or another encoder of `load_bert`; its weights are frozen unless `finetune`.
        embed_dim: D.
        heads: attention heads; they divide D.
        attention_layers: gated self-attention layers.
        dropout: in attention and feed-forward layers.
        finetune: train the token encoder too (its pooler stays frozen: nothing reads it).
        bert_eval_mode: keep a frozen token encoder in evaluation mode while training (M5).
        equal_start: query, key and value maps start as equal copies (M10).
        normalize_over: axis of the 3-D normalisation (M1).
        bounded_norm: bound its lengths below (M1).
        for_selfalign: normalise the mapped tokens, which feed the concept loss; the host alone does not, and its map
            starts with default weights (MODELS.md 9).
        masked_means: the normalisation over words and the final mean leave padding out (M2).
        masked_batchnorm: batch normalisation leaves padding out (M3).
        masked_attention: padded words are not read (M4). BERT itself never reads them.
    """

    def __init__(
        self,
        token_encoder: nn.Module,
        *,
        embed_dim: int = 2048,
        heads: int = 64,
        attention_layers: int = 1,
        dropout: float = 0.0,
        finetune: bool = False,
        bert_eval_mode: bool = True,
        equal_start: bool = True,
        normalize_over: Literal["places", "embedding"] = "places",
        bounded_norm: bool = True,
        for_selfalign: bool = True,
        masked_means: bool = True,
        masked_batchnorm: bool = True,
        masked_attention: bool = True,
    ) -> None:
        super().__init__()
        self.finetune = finetune
        self.bert_eval_mode = bert_eval_mode
        self.normalize_over: Literal["places", "embedding"] = normalize_over
        self.bounded_norm = bounded_norm
        self.for_selfalign = for_selfalign
        self.masked_means = masked_means
        self.masked_batchnorm = masked_batchnorm
        self.masked_attention = masked_attention
        self.bert = token_encoder
        pad_id = getattr(token_encoder.config, "pad_token_id", None)
        self.pad_id: int = pad_id if isinstance(pad_id, int) else 0
        _freeze(token_encoder, keep_trainable=finetune)
        token_dim: int = token_encoder.config.hidden_size  # type: ignore[union-attr, assignment]
        self.word_map = xavier_linear(token_dim, embed_dim) if for_selfalign else nn.Linear(token_dim, embed_dim)
        self.attention = GatedSelfAttention(
            embed_dim, heads=heads, layers=attention_layers, dropout=dropout, equal_start=equal_start
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(embed_dim, embed_dim)
        )
        self.norm = MaskedBatchNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions; `concepts` and `states` are (B, W, D)."""
        mean_mask, norm_mask, key_mask = (
            texts.mask if masked else None
            for masked in (self.masked_means, self.masked_batchnorm, self.masked_attention)
        )
        words = self.word_map(self.token_states(texts))  # (B, W, D)
        if self.for_selfalign:
            words = normalize_places(words, mean_mask, over=self.normalize_over, bounded=self.bounded_norm)
        states = self.attention(words, key_mask=key_mask, norm_mask=norm_mask)
        read = states + self.dropout(self.norm(self.feed_forward(states), norm_mask))
        return HostEncoding(unit(masked_mean(read, mean_mask)), unit(words), states, texts.mask)

    def token_states(self, texts: TextBatch) -> Tensor:
        """Last hidden layer of the token encoder: (B, W, token width). Without gradient unless it is trained.

        Where the captions bring their states along, the token encoder does not run.
        """
        if texts.states is not None:
            return texts.states
        ids = texts.ids if self.pad_id == 0 else texts.ids.masked_fill(~texts.mask, self.pad_id)
        padding_unread = self.masked_means and self.masked_batchnorm and self.masked_attention
        if ids.device.type == "cpu" and padding_unread and not (self.finetune or self.bert.training):
            return _states_by_length(self.bert, ids, texts.mask)
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            output = self.bert(input_ids=ids, attention_mask=texts.mask.long())
        states: Tensor = output.last_hidden_state
        return states

    def train(self, mode: bool = True) -> CameraTextEncoder:
        """Switch between training and evaluation; a frozen BERT stays in evaluation mode if told so (M5)."""
        super().train(mode)
        if self.bert_eval_mode and not self.finetune:
            self.bert.eval()
        return self


@torch.no_grad()
def _states_by_length(bert: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Token states with captions of like lengths together, so that little is computed for padding.

    What stands at padding depends on the batch and must not be read. Of use on CPUs only: elsewhere one would have to
    wait for the lengths.
    """
    lengths = mask.sum(1)
    parts = []
    for rows in torch.split(lengths.argsort(stable=True), CAPTIONS_TOGETHER):
        width = int(lengths[rows[-1]])
        output = bert(input_ids=ids[rows, :width], attention_mask=mask[rows, :width].long())
        parts.append((rows, output.last_hidden_state))
    states: Tensor = parts[0][1].new_zeros(*ids.shape, parts[0][1].shape[-1])
    for rows, part in parts:
        states[rows, : part.shape[1]] = part
    return states


def _freeze(token_encoder: nn.Module, *, keep_trainable: bool) -> None:
    """Take gradients away from all of a token encoder, or from the pooler alone."""
    token_encoder.requires_grad_(keep_trainable)
    pooler = getattr(token_encoder, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)
