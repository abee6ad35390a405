"""Explanations of pictures and captions: words of both kinds, words switched off, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.records import make_record, write_records
from support.world import World

from selfalign_cli import Retriever
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.data.text.wordpiece import bert_tokenizer
from selfalign_cli.errors import DataError
from selfalign_cli.explain.explanation import explain, leave_outs, phrase_interaction, row_of

TEXT = "a large red star left of a ring"


@pytest.fixture(scope="module")
def retriever(unbroken: Path) -> Retriever:
    return Retriever.load(unbroken / "best.ckpt", device="cpu")


def test_the_score_is_that_of_search(world: World, retriever: Retriever):
    file = retriever.open_features(world.features)
    found = explain(retriever, leave_outs(retriever, file, 3), TEXT)
    searched = retriever.search([TEXT], retriever.encode_pictures(file, rows=[3]), k=1)
    assert found.score == pytest.approx(float(searched.scores[0, 0]), abs=1e-6)
    assert (found.words, found.boxes) == (tuple(TEXT.split()), tuple(map(tuple, file.boxes(3).tolist())))
    assert np.shape(found.interaction) == (8, len(found.boxes))


def test_a_word_that_is_off_is_a_word_that_was_not_written(world: World, retriever: Retriever):
    picture = leave_outs(retriever, retriever.open_features(world.features), 0)
    off, unwritten = (
        explain(retriever, picture, TEXT, off=[1, 2]),
        explain(retriever, picture, "a star left of a ring"),
    )
    assert off.score == pytest.approx(unwritten.score, abs=1e-9)
    assert off.region_changes == pytest.approx(unwritten.region_changes, abs=1e-7)
    on = [row for place, row in enumerate(off.interaction) if place not in off.off]
    np.testing.assert_allclose(on, unwritten.interaction, atol=1e-6)
    assert set(off.interaction[1]) == set(off.interaction[2]) == {0.0}


def test_a_phrase_of_one_word_is_that_word(world: World, retriever: Retriever):
    picture = leave_outs(retriever, retriever.open_features(world.features), 0)
    alone, pair = phrase_interaction(retriever, picture, TEXT, [[3], [2, 3]])
    assert alone == pytest.approx(explain(retriever, picture, TEXT).interaction[3], abs=1e-7)
    assert pair != pytest.approx(alone, abs=1e-5)


def test_spans_are_those_of_the_words(world: World):
    known = "[PAD] [UNK] [CLS] [SEP] ein zeb ##ra , a red star ! ##s".split()
    words, pieces = Vocabulary.load(world.vocab), bert_tokenizer(known)
    text = "Ein zebra, a red star!"
    assert [word for word, _ in words.word_spans(text)] == ["ein", "zebra", ",", "a", "red", "star", "!"]
    assert [word for word, _ in pieces.word_spans(text)] == ["Ein", "zebra", ",", "a", "red", "star", "!"]
    for encoder in (words, pieces):
        ids, spans = encoder.encode(text), encoder.word_spans(text)
        assert [place for _, span in spans for place in span] == list(range(1, len(ids) - 1))
        without = [number for place, number in enumerate(ids) if place not in spans[4][1]]
        assert without == encoder.encode("Ein zebra, a star!")
    assert any(len(span) > 1 for _, span in pieces.word_spans(text))


def test_what_cannot_be_explained_is_refused(world: World, retriever: Retriever, tmp_path: Path):
    file = retriever.open_features(world.features)
    with pytest.raises(DataError, match=r"no picture '1000'; it has '0'|no picture '1000'"):
        row_of(file, "1000")
    picture = leave_outs(retriever, file, 0)
    for text, off, reason in (
        ("  ", (), "has no words"),
        ("a " * 201, (), "has 201 words; at most 200"),
        ("a star", (2,), "no word 2; the caption has words 0 to 1"),
    ):
        with pytest.raises(DataError, match=reason):
            explain(retriever, picture, text, off=off)
    write_records(
        tmp_path / "one.h5",
        [make_record(regions=1, image_id="lonely", features=np.ones((1, file.feature_dim), np.float32))],
    )
    with pytest.raises(DataError, match="picture lonely has one region"):
        leave_outs(retriever, retriever.open_features(tmp_path / "one.h5"), 0)


def test_a_caption_longer_than_the_model_reads(world: World, retriever: Retriever):
    """What is cut has no effect; without a word before, what was cut is read."""
    cut = Retriever(
        retriever.recipe.model_copy(update={"data": retriever.recipe.data.model_copy(update={"max_words": 5})}),
        retriever.model,
        retriever.captions,
        feature_dim=retriever.feature_dim,
    )
    picture = leave_outs(cut, cut.open_features(world.features), 0)
    found = explain(cut, picture, TEXT)
    assert np.abs(found.interaction[4:]).max() < 1e-7 < np.abs(found.interaction[:3]).max()
    assert torch.tensor(found.word_changes[4:]).abs().max() < 1e-7
