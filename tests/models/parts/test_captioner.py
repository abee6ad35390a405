"""The caption generator against a decoder written step by step, its targets by hand, padding, dropout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.models.parts.captioner import END_ID, START_ID, CaptionGenerator, caption_targets

REGION, WORDS, HIDDEN, WORD, LONGEST = 6, 11, 7, 5, 8
COUNTS = [4, 2, 3]
LENGTHS = [7, 5, 10]


def generator(dropout: float = 0.0) -> CaptionGenerator:
    torch.manual_seed(0)
    return CaptionGenerator(REGION, WORDS, hidden_dim=HIDDEN, word_dim=WORD, max_len=LONGEST, dropout=dropout).double()


def regions(width: int = 4, filler: float = 0.0) -> tuple[Tensor, Tensor]:
    values = torch.randn(3, 4, REGION, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(width) < torch.tensor(COUNTS).unsqueeze(1)
    padded = functional.pad(values, (0, 0, 0, width - 4))
    return torch.where(mask.unsqueeze(-1), padded, filler), mask


def targets(max_len: int = LONGEST) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor(LENGTHS)
    ids = torch.randint(4, WORDS, (3, max(LENGTHS)), generator=torch.Generator().manual_seed(2))
    positions = torch.arange(ids.shape[1])
    ids = ids.masked_fill(positions == 0, START_ID).masked_fill(positions == lengths.unsqueeze(1) - 1, END_ID)
    return caption_targets(ids.masked_fill(positions >= lengths.unsqueeze(1), 0), lengths, max_len)


def attended(module: CaptionGenerator, memory: Tensor, state: Tensor) -> Tensor:
    """What the decoder reads from the regions (R, h) of one picture in one state (h,)."""
    scores = []
    for region in memory:
        hidden = torch.tanh(module.attention(torch.cat([region, state])))
        scores.append(module.attention_score(hidden))
    weights = torch.cat(scores).softmax(dim=0)
    return (weights.unsqueeze(1) * memory).sum(dim=0)


def step_by_step(module: CaptionGenerator, picture: Tensor, words: Tensor) -> Tensor:
    """Log-probabilities (T, V) after each of the given words, for the real regions (R, D) of one picture."""
    memory, last = module.encoder(module.region_map(picture))
    state, predicted = last[0], []
    for word in words:
        read = attended(module, memory, state)
        state = module.decoder(torch.cat([module.embed(word), read])[None], state[None])[0]
        predicted.append(module.out(state).log_softmax(dim=-1))
    return torch.stack(predicted)


def test_targets_by_hand() -> None:
    """M = 5: 4 ids fit, marks included; 5 ids stay as they are; of 6 the first 5 stay, the last of them the end mark.

    The first padding id counts as a target.
    """
    ids = torch.tensor([[1, 7, 8, 2, 0, 0], [1, 7, 8, 9, 2, 0], [1, 7, 8, 9, 6, 2]])
    labels, mask = caption_targets(ids, torch.tensor([4, 5, 6]), 5)
    assert labels.tolist() == [[1, 7, 8, 2, 0, 0], [1, 7, 8, 9, 2, 0], [1, 7, 8, 9, 2, 0]]
    assert mask.int().tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]


def test_targets_of_a_short_batch_are_as_wide() -> None:
    labels, mask = caption_targets(torch.tensor([[1, 7, 2]]), torch.tensor([3]), 6)
    assert labels.tolist() == [[1, 7, 2, 0, 0, 0, 0]]
    assert mask.int().tolist() == [[1, 1, 1, 1, 0, 0, 0]]


def test_targets_do_not_touch_the_batch() -> None:
    ids = torch.tensor([[1, 7, 8, 9, 6, 2]])
    caption_targets(ids, torch.tensor([6]), 4)
    assert ids.tolist() == [[1, 7, 8, 9, 6, 2]]


@pytest.mark.parametrize("width", [6, 9])
def test_targets_do_not_depend_on_the_width_of_the_batch(width: int) -> None:
    ids, lengths = torch.tensor([[1, 7, 8, 2], [1, 7, 2, 0]]), torch.tensor([4, 3])
    wide = functional.pad(ids, (0, width - 4))
    for found, expected in zip(caption_targets(wide, lengths, 5), caption_targets(ids, lengths, 5), strict=True):
        assert torch.equal(found, expected)


def test_predictions_equal_the_decoder_step_by_step() -> None:
    module, (pictures, mask), (labels, label_mask) = generator(), regions(), targets()
    predicted, words = module(pictures, mask, labels, label_mask)
    rows, expected_words = [], []
    for row, count in enumerate(COUNTS):
        steps = int(label_mask[row, 1:LONGEST].sum())
        rows.append(step_by_step(module, pictures[row, :count], labels[row, :steps]))
        expected_words.append(labels[row, 1 : steps + 1])
    torch.testing.assert_close(predicted, torch.cat(rows))
    assert torch.equal(words, torch.cat(expected_words))


def test_gradients_equal_those_of_the_decoder_step_by_step() -> None:
    module, (pictures, mask), (labels, label_mask) = generator(), regions(), targets()
    parameters = [*module.parameters(), pictures.requires_grad_()]
    predicted, words = module(pictures, mask, labels, label_mask)
    found = torch.autograd.grad(functional.nll_loss(predicted, words, reduction="sum"), parameters)
    total = torch.zeros((), dtype=torch.float64)
    for row, count in enumerate(COUNTS):
        steps = int(label_mask[row, 1:LONGEST].sum())
        expected = step_by_step(module, pictures[row, :count], labels[row, :steps])
        total = total + functional.nll_loss(expected, labels[row, 1 : steps + 1], reduction="sum")
    torch.testing.assert_close(found, torch.autograd.grad(total, parameters))


def test_greedy_words_are_the_most_likely_ones() -> None:
    module, (pictures, mask) = generator().eval(), regions()
    with torch.no_grad():
        tokens, scores = module.greedy(pictures, mask)
        assert tokens.shape == scores.shape == (3, LONGEST - 2)
        for row, count in enumerate(COUNTS):
            words = torch.tensor([START_ID, *tokens[row, :-1].tolist()])
            best = step_by_step(module, pictures[row, :count], words).max(dim=-1)
            assert torch.equal(tokens[row], best.indices)
            torch.testing.assert_close(scores[row], best.values)


def test_padded_regions_do_not_matter() -> None:
    module, (labels, label_mask) = generator(), targets()
    tight, wide = regions(), regions(width=9, filler=50.0)
    torch.testing.assert_close(module(*wide, labels, label_mask)[0], module(*tight, labels, label_mask)[0])
    torch.testing.assert_close(module.greedy(*wide), module.greedy(*tight))


def test_more_room_for_long_captions_changes_nothing_for_short_ones() -> None:
    """Steps that count for no caption are not made."""
    module, lengths = generator(), torch.tensor([4, 3, 3])
    ids = torch.tensor([[1, 7, 8, 2], [1, 6, 2, 0], [1, 5, 2, 0]])
    expected = module(*regions(), *caption_targets(ids, lengths, LONGEST))
    module.max_len = 40
    found = module(*regions(), *caption_targets(ids, lengths, 40))
    torch.testing.assert_close(found, expected)
    assert len(found[0]) == int(lengths.sum())


def test_the_order_of_the_batch_is_that_of_the_targets() -> None:
    module, (pictures, mask), (labels, label_mask) = generator(), regions(), targets()
    order = torch.tensor([2, 0, 1])
    steps = [int(row[1:LONGEST].sum()) for row in label_mask]
    found = module(pictures[order], mask[order], labels[order], label_mask[order])[0].split([steps[i] for i in order])
    expected = module(pictures, mask, labels, label_mask)[0].split(steps)
    for place, row in enumerate(order):
        torch.testing.assert_close(found[place], expected[row])


def test_every_parameter_gets_a_gradient() -> None:
    module = generator()
    predicted, words = module(*regions(), *targets())
    functional.nll_loss(predicted, words).backward()
    for name, value in module.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name


def test_dropout_acts_in_training_only() -> None:
    module, inputs = generator(dropout=0.5), (*regions(), *targets())
    torch.manual_seed(0)
    first, second = module.train()(*inputs)[0], module(*inputs)[0]
    assert not torch.allclose(first, second)
    module.eval()
    torch.testing.assert_close(module(*inputs)[0], generator()(*inputs)[0])


def test_the_shortest_generator_predicts_one_word() -> None:
    """M = 3: two steps teacher forced, one token greedily."""
    torch.manual_seed(0)
    module = CaptionGenerator(REGION, WORDS, hidden_dim=HIDDEN, word_dim=WORD, max_len=3).double().eval()
    labels, label_mask = targets(max_len=3)
    assert len(module(*regions(), labels, label_mask)[0]) == 3 * 2
    assert module.greedy(*regions())[0].shape == (3, 1)
