"""Interaction by leaving out: values by hand, the slow way over all pairs, and what must not change it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.tiny_models import CAMERA, FEATURES, VOCABULARY, VSRN, build_tiny, pictures
from torch import Tensor

from selfalign_cli import Retriever
from selfalign_cli.encodings import ImageBatch
from selfalign_cli.explain.leave_out import (
    encode_leave_outs,
    encode_token_rows,
    interaction,
    region_changes,
    score_table,
    without_each_region,
    without_words,
)

HOSTS = {
    "vsrn": (VSRN, ()),
    "camera": (CAMERA, ()),
    "vsrn alone": (VSRN, ("selfalign.enabled=false", "loss.concept.enabled=false", "loss.context.enabled=false")),
    "vsrn published": (VSRN, ("compat=published",)),
}
IDS = [1, 7, 12, 5, 21, 9, 2]


class Numbers:
    """Captions that are ids already."""

    unknown, content_hash = 3, "0"

    def __len__(self) -> int:
        return VOCABULARY


def tiny_retriever(host: str) -> Retriever:
    text, overrides = HOSTS[host]
    tiny = build_tiny(text, *overrides)
    return Retriever(tiny.recipe, tiny.model, Numbers(), feature_dim=FEATURES)


def part(batch: ImageBatch, regions: list[int]) -> ImageBatch:
    """One picture with these regions only, without padding."""
    return replace(
        batch, features=batch.features[:, regions], mask=batch.mask[:, regions], boxes=batch.boxes[:, regions]
    )


def slowly(retriever: Retriever, picture: ImageBatch, ids: list[int], words: list[list[int]]) -> Tensor:
    """(K, R) from four scores for every word and region, each of a picture and a caption that are encoded for it."""
    everything = list(range(picture.features.shape[1]))

    def score(regions: list[int], left_out: list[int]) -> float:
        text = encode_token_rows(retriever, [[one for place, one in enumerate(ids) if place not in left_out]])
        return float(retriever.score(retriever.encode_pictures([part(picture, regions)]), text))

    rows = []
    for word in words:
        row = []
        for region in everything:
            rest = [other for other in everything if other != region]
            row.append((score(everything, []) - score(rest, [])) - (score(everything, word) - score(rest, word)))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("host", HOSTS)
def test_one_product_gives_what_all_pairs_give_one_by_one(host: str):
    retriever, picture, words = tiny_retriever(host), pictures([4]), [[1], [2, 3], [5]]
    rows = encode_token_rows(retriever, without_words(IDS, words))
    found = interaction(score_table(encode_leave_outs(retriever, picture), rows, retriever.identity.similarity))
    expected = slowly(retriever, picture, IDS, words)
    torch.testing.assert_close(found.float(), expected, atol=2e-6, rtol=0)
    assert expected.abs().max() > 1e-4  # there is something to explain


def test_the_values_are_those_by_hand():
    # S(T, P) = 10; without region 0: 7, without region 1: 9; without the word: 6, and then 5 and 6.
    scores = torch.tensor([[10.0, 6.0], [7.0, 5.0], [9.0, 6.0]])
    assert region_changes(scores)[:, 0].tolist() == [3, 1]
    assert interaction(scores).tolist() == [[(10 - 7) - (6 - 5), (10 - 9) - (6 - 6)]]


def test_words_and_regions_that_only_add_up_do_not_interact():
    regions, words = torch.tensor([0.0, 0.3, 0.7]), torch.tensor([0.0, 0.2, 0.5, 0.1])
    scores = 1 - regions[:, None] - words[None, :]
    torch.testing.assert_close(interaction(scores), torch.zeros(3, 2), atol=1e-6, rtol=0)


def test_what_is_left_out_is_left_out():
    picture = pictures([3])
    rows = without_each_region(picture)
    assert rows.mask.tolist() == [[True] * 3, *[[True, True, False]] * 3]
    for left_out, kept in enumerate([[1, 2], [0, 2], [0, 1]], start=1):
        assert torch.equal(rows.features[left_out, :2], picture.features[0, kept])
        assert torch.equal(rows.boxes[left_out, :2], picture.boxes[0, kept])
        assert not rows.features[left_out, 2].any()
    assert without_words([1, 7, 8, 9, 2], [[1], [2, 3]]) == [[1, 7, 8, 9, 2], [1, 8, 9, 2], [1, 7, 2]]


def test_padding_changes_nothing():
    retriever, words = tiny_retriever("camera"), encode_token_rows(tiny_retriever("camera"), without_words(IDS, [[2]]))
    alone = score_table(encode_leave_outs(retriever, pictures([3])), words, "dot")
    rows = without_each_region(pictures([3]))
    wide = replace(
        rows,
        features=torch.cat([rows.features, torch.full((4, 2, FEATURES), 9.0)], 1),
        mask=torch.cat([rows.mask, torch.zeros(4, 2, dtype=torch.bool)], 1),
        boxes=torch.cat([rows.boxes, torch.full((4, 2, 4), 9.0)], 1),
    )
    torch.testing.assert_close(score_table(retriever.encode_pictures([wide]), words, "dot"), alone, atol=1e-6, rtol=0)


def test_the_order_of_regions_only_orders_the_numbers():
    """Of CAMERA, which reads regions as a set."""
    retriever, picture = tiny_retriever("camera"), pictures([4])
    words = encode_token_rows(retriever, without_words(IDS, [[1], [2]]))
    straight, turned = (
        interaction(score_table(encode_leave_outs(retriever, part(picture, order)), words, "dot"))
        for order in ([0, 1, 2, 3], [3, 2, 1, 0])
    )
    torch.testing.assert_close(turned.flip(1), straight, atol=1e-6, rtol=0)
