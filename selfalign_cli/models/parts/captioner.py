"""VSRN's caption generator: reads graph regions, predicts the caption word by word; used in training only.

Source: MODELS.md 2.3 and 1.4. Three things make it cheap without changing a value: the region half of the attention
is computed once, word inputs of all steps are projected at once, and one vocabulary product serves all real targets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.models.parts.basics import last_state
from selfalign_cli.models.parts.norm import zero_padding

START_ID = 1
END_ID = 2


def caption_targets(ids: Tensor, lengths: Tensor, max_len: int) -> tuple[Tensor, Tensor]:
    """Make generator labels and their mask from padded caption ids.

    A caption of more than max_len - 1 ids keeps its first max_len and ends them with `<end>`. One position more than
    the caption is a target: the first padding id serves as end mark (Reference: MODELS.md 1.4).

    Args:
        ids: (B, W) int64 with marks, zero-padded.
        lengths: (B,) number of real ids.
        max_len: M.

    Returns:
        labels (B, M + 1) int64 and mask (B, M + 1) bool.
    """
    labels = functional.pad(ids[:, :max_len], (0, max(0, max_len - ids.shape[1]) + 1))
    kept = lengths.clamp(max=max_len)
    labels[lengths > max_len - 1, kept[lengths > max_len - 1] - 1] = END_ID
    positions = torch.arange(max_len + 1, device=ids.device)
    labels = labels.masked_fill(positions >= kept.unsqueeze(1), 0)
    return labels, positions < kept.unsqueeze(1) + 1


class _SharedBySteps(NamedTuple):
    """What the steps of a decoder read and do not change.

    Attributes:
        memory: (B, R, h) encoder states.
        keys: (B, R, h) the memory, mapped for attention.
        query_weight: (h, h) map of the decoder state for attention.
        read_weight: (3h, h) map of what attention reads to the gates.
        padding: (B, R) zero on real regions, -inf elsewhere.
    """

    memory: Tensor
    keys: Tensor
    query_weight: Tensor
    read_weight: Tensor
    padding: Tensor


class CaptionGenerator(nn.Module):
    """Attention encoder-decoder over the regions of a picture.

    Args:
        region_dim: D, width of the regions.
        vocab_size: number of words.
        hidden_dim: width of encoder and decoder states.
        word_dim: width of the decoder's word table.
        max_len: M; the decoder makes M - 1 steps at most.
        dropout: on projected regions and on decoder inputs.
    """

    def __init__(
        self,
        region_dim: int,
        vocab_size: int,
        *,
        hidden_dim: int = 512,
        word_dim: int = 300,
        max_len: int = 60,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.max_len = max_len
        self.dropout = nn.Dropout(dropout)
        self.region_map = nn.Linear(region_dim, hidden_dim)
        self.encoder = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.embed = nn.Embedding(vocab_size, word_dim)
        self.attention = nn.Linear(2 * hidden_dim, hidden_dim)
        self.attention_score = nn.Linear(hidden_dim, 1, bias=False)
        self.decoder = nn.GRUCell(word_dim + hidden_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, vocab_size)
        nn.init.xavier_normal_(self.region_map.weight)
        nn.init.xavier_normal_(self.out.weight)

    def forward(self, regions: Tensor, mask: Tensor, labels: Tensor, label_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every real word of the captions, teacher forced.

        Args:
            regions: (B, R, D), zero at padded positions.
            mask: (B, R) bool, True on real regions.
            labels: (B, M + 1) int64 of `caption_targets`.
            label_mask: (B, M + 1) bool; position t + 1 says whether the prediction of step t counts.

        Returns:
            Log-probabilities (n, V) and targets (n,) of the n positions that count, caption by caption.
        """
        counts = label_mask[:, 1 : self.max_len]
        steps = max(1, int(counts.any(dim=0).sum()))  # later steps count nowhere
        states = self.teacher_forced(*self.encode(regions, mask), mask, labels[:, :steps])
        counts = counts[:, :steps]
        return self.out(states[counts]).log_softmax(dim=-1), labels[:, 1 : steps + 1][counts]

    def encode(self, regions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the encoder: (B, R, D) -> states (B, R, h) and the state after the last real region (B, h)."""
        states = self.encoder(self.dropout(self.region_map(regions)))[0]
        return zero_padding(states, mask), last_state(states, mask)

    def teacher_forced(self, memory: Tensor, state: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Decode with the given input words (B, T) -> decoder states (B, T, h), state t after reading word t."""
        shared = self._shared_by_steps(memory, mask)
        states = []
        for inputs in self._word_inputs(words).unbind(dim=1):
            state = self._step(shared, inputs, state)
            states.append(state)
        return torch.stack(states, dim=1)

    def greedy(self, regions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the most likely words: tokens fed after `<start>` and their log-probabilities, (B, M - 2) each.

        Reference: the prediction of the last step is dropped, as in the released sampler.
        """
        memory, state = self.encode(regions, mask)
        shared = self._shared_by_steps(memory, mask)
        word = torch.full((len(regions),), START_ID, dtype=torch.long, device=regions.device)
        tokens, scores = [], []
        for _ in range(self.max_len - 2):
            state = self._step(shared, self._word_inputs(word), state)
            score, word = self.out(state).log_softmax(dim=-1).max(dim=-1)
            tokens.append(word)
            scores.append(score)
        return torch.stack(tokens, dim=1), torch.stack(scores, dim=1)

    def _word_inputs(self, words: Tensor) -> Tensor:
        """Compute what words add to the gates: (…) -> (…, 3h)."""
        weight = self.decoder.weight_ih[:, : self.embed.embedding_dim]
        return functional.linear(self.dropout(self.embed(words)), weight, self.decoder.bias_ih)

    def _shared_by_steps(self, memory: Tensor, mask: Tensor) -> _SharedBySteps:
        """Prepare what all steps share.

        Weights are cut once, here: a cut inside the loop would cost a weight-sized gradient in every step.
        """
        width = memory.shape[-1]
        return _SharedBySteps(
            memory=memory,
            keys=functional.linear(memory, self.attention.weight[:, :width], self.attention.bias),
            query_weight=self.attention.weight[:, width:],
            read_weight=self.decoder.weight_ih[:, self.embed.embedding_dim :],
            padding=torch.zeros_like(mask, dtype=memory.dtype).masked_fill(~mask, float("-inf")),
        )

    def _step(self, shared: _SharedBySteps, word_inputs: Tensor, state: Tensor) -> Tensor:
        """One attention read and one GRU step: (B, 3h) and (B, h) -> (B, h)."""
        query = functional.linear(state, shared.query_weight)
        scores = self.attention_score(torch.tanh(shared.keys + query.unsqueeze(1))).squeeze(-1)  # (B, R)
        weights = (scores + shared.padding).softmax(dim=-1)
        read = self.dropout((weights.unsqueeze(1) @ shared.memory).squeeze(1))
        inputs = word_inputs + functional.linear(read, shared.read_weight)
        input_reset, input_update, input_new = inputs.chunk(3, -1)
        hidden = functional.linear(state, self.decoder.weight_hh, self.decoder.bias_hh)
        hidden_reset, hidden_update, hidden_new = hidden.chunk(3, -1)
        new = torch.tanh(input_new + torch.sigmoid(input_reset + hidden_reset) * hidden_new)
        return torch.lerp(new, state, torch.sigmoid(input_update + hidden_update))
