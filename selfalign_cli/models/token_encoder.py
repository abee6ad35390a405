"""The token encoder below a host's captions: a BERT, frozen or trained, that gives one state per token.

Hosts take the states, (B, W, E), from `TextBatch.states`, and do not know where they come from. Loading is in
`models/bert.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from selfalign_cli.encodings import TextBatch

CAPTIONS_TOGETHER = 32
"""Captions that BERT reads at once on a CPU: fewer leave less padding, and smaller products."""


class TokenEncoder:
    """How a BERT is used: which of its weights are trained, in which mode, and on which tokens.

    It is no module: the weights stay where `RetrievalModel` registers them.

    Args:
        bert: BERT or another encoder of `load_bert`; its weights are frozen unless `finetune`, its pooler is in any
            case, since nothing reads it.
        finetune: train it.
        bert_eval_mode: keep a frozen BERT in evaluation mode while training (M5).
        padding_is_read: states at padded positions take part in what is made of them (M2, M3, M4). BERT itself never
            reads padding.
    """

    def __init__(
        self, bert: nn.Module, *, finetune: bool = False, bert_eval_mode: bool = True, padding_is_read: bool = False
    ) -> None:
        self.bert = bert
        self.finetune = finetune
        self.bert_eval_mode = bert_eval_mode
        self.padding_is_read = padding_is_read
        pad_id = getattr(self.config, "pad_token_id", None)
        self.pad_id: int = pad_id if isinstance(pad_id, int) else 0
        bert.requires_grad_(finetune)
        pooler = getattr(bert, "pooler", None)
        if isinstance(pooler, nn.Module):
            pooler.requires_grad_(False)

    @property
    def config(self) -> Any:
        """The configuration of `transformers`."""
        return self.bert.config

    @property
    def width(self) -> int:
        """E, the width of a token state."""
        return int(self.config.hidden_size)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, trained or not."""
        return self.bert.parameters()

    def train(self, mode: bool) -> None:
        """Switch between training and evaluation; a frozen BERT stays in evaluation mode if asked to (M5)."""
        self.bert.train(mode and (self.finetune or not self.bert_eval_mode))

    def states(self, texts: TextBatch) -> Tensor:
        """Last hidden layer, (B, W, E), without gradient unless BERT is trained.

        Captions that bring their states along are not encoded again.
        """
        if texts.states is not None:
            return texts.states
        ids = texts.ids if self.pad_id == 0 else texts.ids.masked_fill(~texts.mask, self.pad_id)
        read = texts.mask & (ids != self.pad_id)  # altered words may be padding too (G7)
        if ids.device.type == "cpu" and not (self.padding_is_read or self.finetune or self.bert.training):
            return self._states_by_length(ids, read, texts.lengths)
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            output = self.bert(input_ids=ids, attention_mask=read.long())
        states: Tensor = output.last_hidden_state
        return states

    @torch.no_grad()
    def _states_by_length(self, ids: Tensor, read: Tensor, lengths: Tensor) -> Tensor:
        """Token states with captions of similar lengths together, so that little is computed for padding.

        The states at padding depend on the batch and must not be read. Of use on CPUs only: elsewhere one would have
        to wait for the lengths.
        """
        parts = []
        for rows in torch.split(lengths.argsort(stable=True), CAPTIONS_TOGETHER):
            width = int(lengths[rows[-1]])
            output = self.bert(input_ids=ids[rows, :width], attention_mask=read[rows, :width].long())
            parts.append((rows, output.last_hidden_state))
        states: Tensor = parts[0][1].new_zeros(*ids.shape, parts[0][1].shape[-1])
        for rows, part in parts:
            states[rows, : part.shape[1]] = part
        return states
