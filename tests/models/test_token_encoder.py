"""The token encoder: its modes, its gradients, reading by length, and any host on top of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from selfalign_cli.encodings import HostEncoding, TextBatch
from selfalign_cli.models import token_encoder
from selfalign_cli.models.bert import seeded_bert
from selfalign_cli.models.parts.norm import masked_mean, unit
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.models.token_encoder import TokenEncoder

BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}


class MeanOfStates(nn.Module):
    """A host's text encoder that reads token states, and knows nothing of BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.word_map = nn.Linear(8, 4)

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions."""
        words = self.word_map(texts.states)
        return HostEncoding(unit(masked_mean(words, texts.mask)), unit(words), words, texts.mask)


def made(**options: bool) -> TokenEncoder:
    return TokenEncoder(seeded_bert(BERT, seed=1), **options)


def model_on(tokens: TokenEncoder) -> RetrievalModel:
    torch.manual_seed(0)
    return RetrievalModel(nn.Linear(1, 1), MeanOfStates(), None, tokens)


def captions(lengths: list[int], width: int | None = None) -> TextBatch:
    generator = torch.Generator().manual_seed(9)
    mask = torch.arange(width or max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 30, (length,), generator=generator)
    return TextBatch(ids, mask)


@pytest.mark.parametrize("together", [1, 2, 3, 7, 32])
def test_captions_of_similar_lengths_are_read_together(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """A frozen BERT gives each caption the states that it gives it in the whole batch."""
    monkeypatch.setattr(token_encoder, "CAPTIONS_TOGETHER", together)
    tokens, batch = made(), captions([4, 9, 2, 4, 7, 1, 9], width=12)
    tokens.train(True)
    states = tokens.states(batch)
    whole = tokens.bert(input_ids=batch.ids, attention_mask=batch.mask.long()).last_hidden_state
    torch.testing.assert_close(states[batch.mask], whole[batch.mask], atol=1e-6, rtol=0)


def test_where_padding_is_read_it_has_states() -> None:
    tokens = made(padding_is_read=True)
    tokens.train(False)
    assert tokens.states(captions([4, 9]))[0, 4:].abs().amax(dim=1).min() > 0.01


def test_states_that_captions_bring_along_are_taken() -> None:
    batch = replace(captions([4, 9]), states=torch.randn(2, 9, 8))
    assert made().states(batch) is batch.states


@pytest.mark.parametrize(
    ("options", "training"),
    [({}, False), ({"bert_eval_mode": False}, True), ({"finetune": True}, True)],
)
def test_mode_while_training(options: dict[str, bool], training: bool) -> None:
    model = model_on(made(**options)).train()
    assert model.text.training
    assert model.text.bert.training is training
    assert not model.eval().text.bert.training


def test_a_frozen_bert_gets_no_gradient() -> None:
    model = model_on(made())
    model.encode_text(captions([4, 6])).vectors.pooled.sum().backward()
    assert model.text.word_map.weight.grad is not None
    assert all(not value.requires_grad and value.grad is None for value in model.token_encoder.parameters())


def test_a_finetuned_bert_gets_gradients_wherever_it_can() -> None:
    model = model_on(made(finetune=True))
    model.encode_text(captions([4, 6])).vectors.pooled.square().mul(torch.arange(4)).sum().backward()
    bert = model.token_encoder.bert
    without = [name for name, value in bert.named_parameters() if value.requires_grad and value.grad is None]
    assert not without
    assert not any(value.requires_grad for value in bert.pooler.parameters())


def test_padding_id_of_the_token_encoder_is_used() -> None:
    """An encoder that pads with id 1 counts positions over all other ids, so padding must carry that id."""
    tokens, batch = made(), captions([4], width=6)
    seen = []
    tokens.bert.register_forward_pre_hook(lambda _, __, inputs: seen.append(inputs["input_ids"]), with_kwargs=True)
    tokens.pad_id = 1
    tokens.train(True)
    tokens.padding_is_read = True
    tokens.states(batch)
    assert seen[0][0, 4:].tolist() == [1, 1]


def test_checkpoints_hold_its_weights_below_the_text_encoder() -> None:
    model, bert = model_on(made()), seeded_bert(BERT, seed=1)
    assert set(model.state_dict()) == {
        "image.weight",
        "image.bias",
        "text.word_map.weight",
        "text.word_map.bias",
        *(f"text.bert.{name}" for name in bert.state_dict()),
    }
    assert {id(value) for value in model.token_encoder.parameters()} <= {id(value) for value in model.parameters()}


def test_a_host_on_token_states_encodes_captions_alone_as_in_a_batch() -> None:
    model = model_on(made()).eval()
    together, alone = (model.encode_text(captions(lengths, 12)).vectors.pooled for lengths in ([4, 9], [4]))
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=0)
