"""Regions and words that training leaves out or alters: chances, marks, what always stays, the same draws again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.records import make_record, write_records

from selfalign_cli.data.alterations import EXEMPT, Alterations, kept_regions, step_generator
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import PairDataset, collate_pairs, pair_batches
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.data.text.wordpiece import bert_tokenizer

MASK, VOCABULARY = 90, 100
ALTER = Alterations(0.2, 0.2, MASK, VOCABULARY)


def altered(ids: list[int], words: list[int], draws: list[float], *picks: int) -> list[int]:
    return ALTER.altered_ids(ids, words, draws, iter(picks).__next__)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (0.05, [MASK, MASK]),
        (0.099, [MASK, MASK]),
        (0.1, [7, 8]),
        (0.119, [7, 8]),
        (0.13, []),
        (0.19, []),
        (0.2, [5, 6]),
    ],
)
def test_a_word_of_two_pieces(draw: float, expected: list[int]) -> None:
    """Masked, replaced piece by piece, left out, or kept; the other word and the marks stay."""
    found = altered([1, 5, 6, 4, 2], [EXEMPT, 0, 0, 1, EXEMPT], [draw, 0.9], 7, 8)
    assert found == [1, *expected, 4, 2]


def test_one_word_always_stays() -> None:
    assert altered([1, 5, 2], [0, 1, 2], [0.13, 0.19, 0.15]) == [5]
    assert altered([1, 2], [EXEMPT, EXEMPT], []) == [1, 2]


def test_one_region_always_stays() -> None:
    assert kept_regions(np.array([0.1, 0.19, 0.05]), 0.2).tolist() == [False, True, False]
    assert kept_regions(np.array([0.2, 0.21]), 0.2).tolist() == [False, True]


def test_chances() -> None:
    """10 % masked, 2 % replaced, 8 % left out; 20 % of the regions."""
    draws, count = np.random.default_rng(0), 20000
    words = draws.random(count).tolist()
    found = ALTER.altered_ids([5] * count, range(count), words, lambda: 6)
    parts = [found.count(MASK) / count, found.count(6) / count, 1 - len(found) / count]
    assert parts == pytest.approx([0.1, 0.02, 0.08], abs=0.006)
    assert kept_regions(draws.random(count), 0.2).mean() == pytest.approx(0.8, abs=0.01)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PairDataset:
    path = tmp_path_factory.mktemp("alterations") / "f.h5"
    write_records(path, [make_record(row, regions=1 + row % 4) for row in range(10)])
    vocabulary = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "a", "dog")).with_mask()
    assert vocabulary.mask is not None
    alterations = Alterations(0.5, 0.5, vocabulary.mask, len(vocabulary))
    file = FeatureFile(path)
    return PairDataset(file, "train", vocabulary.encode, alterations=alterations, words=vocabulary.word_numbers)


def batches(dataset: PairDataset, epoch: int, **more: object) -> list[list[list[int]]]:
    found = pair_batches(dataset, batch_size=8, seed=1, epoch=epoch, **more)  # type: ignore[arg-type]
    return [[row[mask].tolist() for row, mask in zip(b.texts.ids, b.texts.mask, strict=True)] for b in found]


def test_draws_depend_on_seed_epoch_and_step_alone(dataset: PairDataset) -> None:
    whole = batches(dataset, 0)
    assert batches(dataset, 0) == whole
    assert batches(dataset, 0, start_step=1) == whole[1:]
    assert batches(dataset, 0, workers=2) == whole
    assert batches(dataset, 1) != whole
    assert len(batches(dataset, 0, drop_last=True)) == len(whole) - 1 == 2
    assert step_generator(1, 0, 0).random() != step_generator(1, 0, 1).random()


def test_every_process_draws_the_same(dataset: PairDataset) -> None:
    """The rows of two processes are those of one, padded alike."""
    indices = np.arange(9)
    whole = collate_pairs(dataset, indices, draws=step_generator(3, 0, 0))
    for rank in range(2):
        part = collate_pairs(dataset, indices, shard=slice(rank, None, 2), draws=step_generator(3, 0, 0))
        assert torch.equal(part.texts.ids, whole.texts.ids[rank::2])
        assert torch.equal(part.images.features, whole.images.features[rank::2])
        assert torch.equal(part.images.mask, whole.images.mask[rank::2])
        assert torch.equal(part.captions, whole.captions[rank::2])
    lengths = whole.texts.lengths.tolist()
    assert lengths == sorted(lengths, reverse=True)


def test_regions_move_together_with_their_boxes(dataset: PairDataset) -> None:
    batch = collate_pairs(dataset, np.arange(20), draws=step_generator(5, 0, 0))
    assert batch.images.boxes is not None
    for row, image in enumerate(batch.images.index.tolist()):
        own = torch.from_numpy(dataset.file.regions(image)).to(batch.images.features)
        real = batch.images.mask[row]
        for features, box in zip(batch.images.features[row][real], batch.images.boxes[row][real], strict=True):
            place = int((own == features).all(1).nonzero()[0])
            assert torch.equal(box, torch.from_numpy(np.array(dataset.file.boxes(image)[place])))
        assert not batch.images.features[row][~real].any()


def test_pieces_know_their_words() -> None:
    tokenizer = bert_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "do", "##g", "a", "."])
    assert tokenizer.mask == 4
    assert tokenizer.word_numbers("a dog.") == [EXEMPT, 0, 1, 1, 2, EXEMPT]


def test_a_tokenizer_without_mask() -> None:
    assert bert_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"]).mask is None


def test_a_file_of_features_without_boxes(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_records(path, [make_record(row, boxes=None) for row in range(3)])
    file = FeatureFile(path)
    plain = PairDataset(file, "train", lambda text: [1, 2], alterations=Alterations(0.3, 0.0, 0, 3))
    assert collate_pairs(plain, [0, 1], draws=step_generator(0, 0, 0)).images.boxes is None
